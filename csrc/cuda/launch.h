// How work is shared out over blocks and threads.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "elements.h"

namespace lbam::cuda {

constexpr int kThreads = 256;

#if defined(LBAM_CUDA_BLOCKS)
constexpr std::int64_t kBlocks = LBAM_CUDA_BLOCKS;
#else
constexpr std::int64_t kBlocks = 2048;  // that share out any work: enough to fill a GPU, few enough to add up quickly
#endif

constexpr std::int64_t divided_up(std::int64_t x, std::int64_t by) { return (x + by - 1) / by; }

// Blocks for work that each block takes by `each`, the rest in turns.
inline unsigned blocks_for(std::int64_t work, std::int64_t each, std::int64_t most = kBlocks) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(divided_up(work, each), 1, std::max<std::int64_t>(most, 1)));
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

LBAM_DEVICE int thread_of_block() { return static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); }

// [positions, channels] in packs: a thread keeps its channels, so that what belongs to them stays in registers, and walks along
// the positions.
struct Share {
  dim3 grid, block;

  Share(std::int64_t positions, std::int64_t channels, int pack) {
    const std::int64_t packs = divided_up(channels, pack);
    unsigned columns = 1;
    while (columns < 32 && columns < packs) columns *= 2;
    block = dim3(columns, kThreads / columns);
    const auto across = static_cast<unsigned>(divided_up(packs, columns));
    grid = dim3(blocks_for(positions, block.y, kBlocks / across), across);
  }
};

template <int kWidth>
LBAM_DEVICE std::int64_t first_channel() {
  return (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kWidth;
}

LBAM_DEVICE std::int64_t first_position() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; }

LBAM_DEVICE std::int64_t position_step() { return static_cast<std::int64_t>(gridDim.x) * blockDim.y; }

// `use` called with an element of the type and the number of elements of a pack, as a type.
template <typename Use>
cudaError_t with_pack(Type type, std::int64_t channels, std::initializer_list<const void*> pointers, const Use& use) {
  return with_type(type, [&](auto element) {
    constexpr int kWidest = kPack<decltype(element)>;
    if (channels % kWidest == 0 && aligned(pointers)) return use(element, std::integral_constant<int, kWidest>());
    return use(element, std::integral_constant<int, 1>());
  });
}

}  // namespace lbam::cuda
