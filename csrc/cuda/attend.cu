// The attention of features by the convolution of a mask, and the mask's update.
#include "launch.h"
#include "parameters.h"

namespace lbam::cuda {
namespace {

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) attend_kernel(const Attend op) {
  const std::int64_t channel = first_channel<kWidth>();
  if (channel >= op.channels) return;
  const Gaussian<float> gaussian = load_gaussian(op.parameters.scalars);
  const float alpha = op.u != nullptr ? *op.parameters.alpha : 1;
  const Affine<kWidth> affine(op.parameters, channel);
  const std::int64_t parts = op.y != nullptr ? op.parts : 0;
  for (std::int64_t position = first_position(); position < op.positions; position += position_step()) {
    const std::int64_t offset = position * op.channels + channel;
    float m[kWidth], map[kWidth];
    load(static_cast<const T*>(op.m) + offset, m);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) map[k] = op.y != nullptr ? attention_map(m[k], gaussian) : 0;
    for (std::int64_t part = blockIdx.z; part < parts; part += gridDim.z) {
      const std::int64_t own = part * op.positions * op.channels + offset;
      float y[kWidth];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) y[k] = 1;
      if (op.features != nullptr) load(static_cast<const T*>(op.features) + own, y);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) y[k] = leaky(y[k] * map[k] * affine.scale[k] + affine.shift[k], op.parameters.slope);
      store(static_cast<T*>(op.y) + own, y);
    }
    if (op.u != nullptr && blockIdx.z == 0) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) m[k] = mask_update(m[k], alpha);
      store(static_cast<T*>(op.u) + offset, m);
    }
  }
}

}  // namespace

cudaError_t lbam_cuda_attend(const Attend& op, cudaStream_t stream) {
  if (op.parts == 0 || op.positions == 0 || op.channels == 0) return cudaSuccess;
  return with_pack(op.type, op.channels, {op.features, op.m, op.y, op.u}, [&](auto element, auto width) {
    Share share(op.positions, op.channels, width);
    const std::int64_t most = std::min<std::int64_t>(kBlocks / (share.grid.x * share.grid.y), 65535);
    share.grid.z = blocks_for(op.parts, 1, most);
    return launch(attend_kernel<decltype(element), width>, share.grid, share.block, stream, op);
  });
}

}  // namespace lbam::cuda
