// The positions sorted by class: each block counts those of its range; then it knows where its part of each class begins.
#include "combine.h"

namespace lbam::cuda {
namespace {

constexpr int kClasses = 3;
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

// Positions of each class.
struct Counts {
  std::int64_t of[kClasses];

  LBAM_DEVICE void add(const Counts& other) {
#pragma unroll
    for (int k = 0; k < kClasses; ++k) of[k] += other.of[k];
  }
};

__global__ void __launch_bounds__(kThreads) count_kernel(const SortedPositions op) {
  __shared__ Counts shared[1][kThreads];
  const Range range(op.positions);
  Counts counts[1] = {};
  for (std::int64_t position = range.start + threadIdx.x; position < range.end; position += kThreads) {
    const int found = op.classes[position];
#pragma unroll
    for (int k = 0; k < kClasses; ++k) counts[0].of[k] += found == k;
  }
  combine(counts, shared, 1);
  if (threadIdx.x == 0) static_cast<Counts*>(op.workspace)[blockIdx.x] = counts[0];
}

__global__ void __launch_bounds__(kThreads) list_kernel(const SortedPositions op) {
  __shared__ Counts shared[1][kThreads];
  __shared__ unsigned scan[2][kThreads];  // ten bits for each class
  __shared__ Counts begin;
  const int thread = thread_of_block();
  const Range range(op.positions);
  Counts before[1] = {}, all[1] = {};
  const auto* const counts = static_cast<const Counts*>(op.workspace);
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads) {
    if (block < blockIdx.x) before[0].add(counts[block]);
    all[0].add(counts[block]);
  }
  combine(before, shared, 1);
  __syncthreads();
  combine(all, shared, 1);
  if (thread == 0) {
    begin = before[0];
    begin.of[1] += all[0].of[0];
    begin.of[2] += all[0].of[0] + all[0].of[1];
  }
  __syncthreads();
  std::int64_t next[kClasses] = {begin.of[0], begin.of[1], begin.of[2]};
  for (std::int64_t first = range.start; first < range.end; first += kThreads) {
    const std::int64_t position = first + thread;
    const bool there = position < range.end;
    const int own = there ? op.classes[position] : 0;
    scan[0][thread] = there ? 1u << 10 * own : 0;
    int from = 0;
    for (int step = 1; step < kThreads; step *= 2, from = 1 - from) {  // sums over twice as many threads each time
      __syncthreads();
      scan[1 - from][thread] = scan[from][thread] + (thread >= step ? scan[from][thread - step] : 0);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kClasses; ++k) {
      if (there && own == k) {
        const std::int64_t to = next[k] + (scan[from][thread] >> 10 * k & 1023) - 1;
        op.order[to] = static_cast<std::int32_t>(position);
        op.sorted[to] = static_cast<std::uint8_t>(k);
      }
      next[k] += scan[from][kThreads - 1] >> 10 * k & 1023;
    }
    __syncthreads();
  }
}

static_assert(kThreads < 1 << 10);

}  // namespace

std::int64_t lbam_cuda_sorted_workspace() { return kMostRanges * static_cast<std::int64_t>(sizeof(Counts)); }

cudaError_t lbam_cuda_sorted_positions(const SortedPositions& op, cudaStream_t stream) {
  if (op.positions > INT32_MAX) return cudaErrorInvalidValue;
  const unsigned ranges = blocks_for(op.positions, kThreads, kMostRanges);
  const cudaError_t error = launch(count_kernel, ranges, kThreads, stream, op);
  return error != cudaSuccess ? error : launch(list_kernel, ranges, kThreads, stream, op);
}

}  // namespace lbam::cuda
