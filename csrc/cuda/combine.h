// Sums and moments of many threads and blocks, combined in an order that does not depend on the run.
#pragma once

#include "launch.h"

namespace lbam::cuda {

struct Sum {
  float value;

  LBAM_DEVICE void add(const Sum& other) { value += other.value; }
};

// Count, mean and sum of the squared distances from the mean.
struct Moments {
  float count, mean, squares;

  // Welford's formula; `share` is what one is of the new count.
  LBAM_DEVICE void add(float x, float share) {
    count += 1;
    const float distance = x - mean;
    mean += distance * share;
    squares += distance * (x - mean);
  }

  // Chan's formula.
  LBAM_DEVICE void add(const Moments& other) {
    const float total = count + other.count;
    const float share = total > 0 ? other.count / total : 0;
    const float distance = other.mean - mean;
    mean += distance * share;
    squares += other.squares + distance * distance * count * share;
    count = total;
  }
};

// Combines what all threads of a block have whose numbers are equal modulo `last`, a power of 2: into the first `last` threads.
template <typename T, int N>
LBAM_DEVICE void combine(T (&values)[N], T (&shared)[N][kThreads], int last) {
  const int thread = thread_of_block();
#pragma unroll
  for (int n = 0; n < N; ++n) shared[n][thread] = values[n];
  for (int step = kThreads / 2; step >= last; step /= 2) {
    __syncthreads();
    if (thread < step) {
#pragma unroll
      for (int n = 0; n < N; ++n) shared[n][thread].add(shared[n][thread + step]);
    }
  }
#pragma unroll
  for (int n = 0; n < N; ++n) values[n] = shared[n][thread];
}

constexpr int kCombinedColumns = 8;

// Each column of a matrix [rows, columns] combined, for finish(column, combined).
template <typename T, typename Finish>
__global__ void __launch_bounds__(kThreads)
    combine_rows_kernel(const T* matrix, std::int64_t rows, std::int64_t columns, const Finish finish) {
  __shared__ T shared[1][kThreads];
  const std::int64_t column = first_channel<1>();
  T combined[1] = {};
  if (column < columns) {
    for (std::int64_t row = threadIdx.y; row < rows; row += blockDim.y) combined[0].add(matrix[row * columns + column]);
  }
  combine(combined, shared, kCombinedColumns);
  if (threadIdx.y == 0 && column < columns) finish(column, combined[0]);
}

template <typename T, typename Finish>
cudaError_t combine_rows(const T* matrix, std::int64_t rows, std::int64_t columns, Finish finish, cudaStream_t stream) {
  const dim3 grid(1, static_cast<unsigned>(divided_up(columns, kCombinedColumns)));
  const dim3 block(kCombinedColumns, kThreads / kCombinedColumns);
  return launch(combine_rows_kernel<T, Finish>, grid, block, stream, matrix, rows, columns, finish);
}

// The largest over the packs that a tensor may be moved in.
template <typename Size>
std::int64_t largest(std::int64_t positions, std::int64_t channels, Size size) {
  std::int64_t result = 0;
  for (const int pack : {1, kPack<float>, kPack<__half>}) {
    result = std::max<std::int64_t>(result, size(Share(positions, channels, pack).grid));
  }
  return result;
}

}  // namespace lbam::cuda
