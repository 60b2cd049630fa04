// The list of mixed positions: each block counts those of its range; then it knows where its part of the list begins.
#include "combine.h"

namespace lbam::cuda {
namespace {

constexpr std::int64_t kMostRanges = std::min<std::int64_t>(kBlocks, 1024);

// The range of positions of this block.
struct Range {
  std::int64_t start, end;

  LBAM_DEVICE explicit Range(std::int64_t positions) {
    const std::int64_t length = (positions + gridDim.x - 1) / gridDim.x;
    start = blockIdx.x * length;
    end = start + length < positions ? start + length : positions;
  }
};

struct Count {
  std::int64_t value;

  LBAM_DEVICE void add(const Count& other) { value += other.value; }
};

__global__ void __launch_bounds__(kThreads) count_kernel(const MixedPositions op) {
  __shared__ Count shared[1][kThreads];
  const Range range(op.positions);
  Count count[1] = {};
  for (std::int64_t position = range.start + threadIdx.x; position < range.end; position += kThreads) {
    count[0].value += op.classes[position] == kMixed;
  }
  combine(count, shared, 1);
  if (threadIdx.x == 0) static_cast<std::int64_t*>(op.workspace)[blockIdx.x] = count[0].value;
}

__global__ void __launch_bounds__(kThreads) list_kernel(const MixedPositions op) {
  __shared__ Count shared[1][kThreads];
  __shared__ int scan[2][kThreads];
  __shared__ std::int64_t begin;
  const int thread = thread_of_block();
  const Range range(op.positions);
  Count before[1] = {};
  const auto* const counts = static_cast<const std::int64_t*>(op.workspace);
  for (unsigned block = threadIdx.x; block < blockIdx.x; block += kThreads) before[0].value += counts[block];
  combine(before, shared, 1);
  if (thread == 0) {
    begin = before[0].value;
    if (blockIdx.x == gridDim.x - 1) *op.count = begin + counts[blockIdx.x];
  }
  __syncthreads();
  std::int64_t next = begin;
  for (std::int64_t first = range.start; first < range.end; first += kThreads) {
    const std::int64_t position = first + thread;
    const bool mixed = position < range.end && op.classes[position] == kMixed;
    scan[0][thread] = mixed;
    int from = 0;
    for (int step = 1; step < kThreads; step *= 2, from = 1 - from) {  // sums over twice as many threads each time
      __syncthreads();
      scan[1 - from][thread] = scan[from][thread] + (thread >= step ? scan[from][thread - step] : 0);
    }
    __syncthreads();
    if (mixed) op.indices[next + scan[from][thread] - 1] = position;
    next += scan[from][kThreads - 1];
    __syncthreads();
  }
}

}  // namespace

std::int64_t lbam_cuda_mixed_workspace() { return kMostRanges * static_cast<std::int64_t>(sizeof(std::int64_t)); }

cudaError_t lbam_cuda_mixed_positions(const MixedPositions& op, cudaStream_t stream) {
  const unsigned ranges = blocks_for(op.positions, kThreads, kMostRanges);
  const cudaError_t error = launch(count_kernel, ranges, kThreads, stream, op);
  return error != cudaSuccess ? error : launch(list_kernel, ranges, kThreads, stream, op);
}

}  // namespace lbam::cuda
