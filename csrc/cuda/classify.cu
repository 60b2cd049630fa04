// Which positions of a mask chain are holes, which known, and which see a border.
#include "launch.h"

namespace lbam::cuda {
namespace {

template <typename T>
LBAM_DEVICE std::uint8_t class_of(T value) {
  const float mask = widened(value);
  return mask == 0 ? kHole : mask == 1 ? kKnown : kMixed;
}

LBAM_DEVICE std::int64_t first_of_all() { return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

LBAM_DEVICE std::int64_t step_of_all() { return static_cast<std::int64_t>(gridDim.x) * kThreads; }

template <typename T>
__global__ void __launch_bounds__(kThreads) classify_mask_kernel(const ClassifyMask op) {
  for (std::int64_t position = first_of_all(); position < op.positions; position += step_of_all()) {
    const T* const mask = static_cast<const T*>(op.mask) + position * op.channels;
    std::uint8_t result = class_of(mask[0]);
    for (std::int64_t c = 1; c < op.channels; ++c) result = class_of(mask[c]) == result ? result : kMixed;
    op.classes[position] = result;
  }
}

// One channel, so that a pack holds as many positions.
template <typename T>
__global__ void __launch_bounds__(kThreads) classify_packs_kernel(const ClassifyMask op) {
  constexpr int kWidth = kPack<T>;
  for (std::int64_t pack = first_of_all(); pack < op.positions / kWidth; pack += step_of_all()) {
    const Pack<T, kWidth> mask = static_cast<const Pack<T, kWidth>*>(op.mask)[pack];
    Pack<std::uint8_t, kWidth> classes;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) classes.values[k] = class_of(mask.values[k]);
    reinterpret_cast<Pack<std::uint8_t, kWidth>*>(op.classes)[pack] = classes;
  }
}

__global__ void __launch_bounds__(kThreads) classify_next_kernel(const ClassifyNext op) {
  const std::int64_t height = op.height / 2, width = op.width / 2;
  for (std::int64_t position = first_of_all(); position < op.batch * height * width; position += step_of_all()) {
    const std::int64_t number = position / (height * width);
    const std::int64_t top = 2 * (position / width % height) - 1, left = 2 * (position % width) - 1;
    bool holes = true, known = true;
#pragma unroll
    for (int tap = 0; tap < 16; ++tap) {
      const std::int64_t row = top + tap / 4, column = left + tap % 4;
      const bool inside = row >= 0 && row < op.height && column >= 0 && column < op.width;
      const int seen = inside ? op.classes[(number * op.height + row) * op.width + column] : kHole;
      holes = holes && seen == kHole;
      known = known && seen == kKnown;
    }
    op.next[position] = holes ? kHole : known ? kKnown : kMixed;
  }
}

}  // namespace

cudaError_t lbam_cuda_classify_mask(const ClassifyMask& op, cudaStream_t stream) {
  if (op.positions == 0 || op.channels == 0) return cudaSuccess;
  return with_type(op.type, [&](auto element) {
    using T = decltype(element);
    const bool packed = op.channels == 1 && op.positions % kPack<T> == 0 && aligned({op.mask, op.classes});
    const auto kernel = packed ? classify_packs_kernel<T> : classify_mask_kernel<T>;
    return launch(kernel, blocks_for(op.positions, packed ? kThreads * kPack<T> : kThreads), kThreads, stream, op);
  });
}

cudaError_t lbam_cuda_classify_next(const ClassifyNext& op, cudaStream_t stream) {
  const std::int64_t positions = op.batch * (op.height / 2) * (op.width / 2);
  if (positions == 0) return cudaSuccess;
  return launch(classify_next_kernel, blocks_for(positions, kThreads), kThreads, stream, op);
}

}  // namespace lbam::cuda
