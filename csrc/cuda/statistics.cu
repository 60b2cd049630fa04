// Mean and variance of the attended features: moments of each block, then those of all blocks.
#include "combine.h"
#include "parameters.h"

namespace lbam::cuda {
namespace {

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) moments_kernel(const Statistics op) {
  __shared__ Moments shared[kWidth][kThreads];
  const std::int64_t channel = first_channel<kWidth>();
  const bool there = channel < op.channels;
  const Gaussian<float> gaussian = load_gaussian(op.scalars);
  Moments moments[kWidth] = {};
  for (std::int64_t position = first_position(); there && position < op.positions; position += position_step()) {
    const std::int64_t offset = position * op.channels + channel;
    float features[kWidth], m[kWidth];
    load(static_cast<const T*>(op.features) + offset, features);
    load(static_cast<const T*>(op.m) + offset, m);
    const float share = 1 / (moments[0].count + 1);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) moments[k].add(features[k] * attention_map(m[k], gaussian), share);
  }
  combine(moments, shared, static_cast<int>(blockDim.x));
  if (threadIdx.y == 0 && there) {
    Moments* const row = static_cast<Moments*>(op.workspace) + blockIdx.x * op.channels + channel;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) row[k] = moments[k];
  }
}

struct StoreMoments {
  float* mean;
  float* variance;

  LBAM_DEVICE void operator()(std::int64_t channel, const Moments& moments) const {
    mean[channel] = moments.mean;
    variance[channel] = moments.squares / moments.count;
  }
};

}  // namespace

std::int64_t lbam_cuda_statistics_workspace(std::int64_t positions, std::int64_t channels) {
  const auto rows = [](dim3 grid) { return grid.x; };
  return largest(positions, channels, rows) * channels * static_cast<std::int64_t>(sizeof(Moments));
}

cudaError_t lbam_cuda_statistics(const Statistics& op, cudaStream_t stream) {
  if (op.channels == 0) return cudaSuccess;
  return with_pack(op.type, op.channels, {op.features, op.m}, [&](auto element, auto width) {
    const Share share(op.positions, op.channels, width);
    const cudaError_t error = launch(moments_kernel<decltype(element), width>, share.grid, share.block, stream, op);
    if (error != cudaSuccess) return error;
    const auto* const rows = static_cast<const Moments*>(op.workspace);
    return combine_rows(rows, share.grid.x, op.channels, StoreMoments{op.mean, op.variance}, stream);
  });
}

}  // namespace lbam::cuda
