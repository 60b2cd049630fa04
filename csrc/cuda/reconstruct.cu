// The last decoder layer: three channels out, so that a thread holds all that its positions become: 2x2 pixels each.
#include "../formulas.h"
#include "launch.h"

namespace lbam::cuda {
namespace {

constexpr int kColumns = 32, kWarps = 4, kRun = 4;  // a thread has kRun positions, one below the other
constexpr int kRows = kWarps * kRun;
constexpr int kLayerThreads = kColumns * kWarps;
constexpr int kPatchRows = kRows + 2, kPatchColumns = kColumns + 2;
constexpr int kPixels = kPatchRows * kPatchColumns;
constexpr int kChunk = 16;           // channels in shared memory at a time
constexpr int kPlane = kPixels + 2;  // so that the packs of a pixel fall into different banks
constexpr int kColours = 3;
constexpr int kTaps = kColours * 16;

struct Operands {
  float patch[kChunk][kPlane];
  Pack<float, 4> weight[kChunk][kTaps / 4];
};

struct Input {
  const void* x;
  const void* weight;
  std::int64_t channels;
  bool packed;
};

struct Tile {
  std::int64_t number, top, left;
};

template <typename T, int kWidth>
LBAM_DEVICE void stage_patch(Operands& to, const Input& input, std::int64_t start, const Tile& tile, const Reconstruct& op) {
  constexpr int kPacks = kChunk / kWidth;
  for (int i = thread_of_block(); i < kPixels * kPacks; i += kLayerThreads) {
    const int pixel = i / kPacks, first = i % kPacks * kWidth;
    const std::int64_t row = tile.top - 1 + pixel / kPatchColumns, column = tile.left - 1 + pixel % kPatchColumns;
    float values[kWidth] = {};
    if (row >= 0 && row < op.height && column >= 0 && column < op.width && start + first < input.channels) {
      const std::int64_t position = (tile.number * op.height + row) * op.width + column;
      load(static_cast<const T*>(input.x) + position * input.channels + start + first, values);
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) to.patch[first + k][pixel] = values[k];
  }
}

template <typename T>
LBAM_DEVICE void stage_weight(Operands& to, const Input& input, std::int64_t start) {
  for (int i = thread_of_block(); i < kChunk * kTaps; i += kLayerThreads) {
    const bool there = start + i / kTaps < input.channels;
    const float value = there ? widened(static_cast<const T*>(input.weight)[start * kTaps + i]) : 0;
    to.weight[i / kTaps][i % kTaps / 4].values[i % 4] = value;
  }
}

using Results = float[kRun][2][2][kColours];  // position, pixel down and right, colour

// What one channel adds. A position at distance `down` reaches the lower or upper pixels by filter row 1 + pixel - 2 * down.
LBAM_DEVICE void add_channel(Results& results, const Operands& from, int c, int row, int column) {
  float x[kRun + 2][3];
#pragma unroll
  for (int r = 0; r < kRun + 2; ++r) {
#pragma unroll
    for (int s = 0; s < 3; ++s) x[r][s] = from.patch[c][(row + r) * kPatchColumns + column + s];
  }
#pragma unroll
  for (int i = 0; i < kTaps / 4; ++i) {
    const Pack<float, 4> weight = from.weight[c][i];
    const int colour = i / 4, kh = i % 4, pixel_row = (kh + 1) % 2, down = (1 + pixel_row - kh) / 2;
#pragma unroll
    for (int kw = 0; kw < 4; ++kw) {
      const int pixel_column = (kw + 1) % 2, right = (1 + pixel_column - kw) / 2;
#pragma unroll
      for (int p = 0; p < kRun; ++p) {
        results[p][pixel_row][pixel_column][colour] += x[p + 1 + down][1 + right] * weight.values[kw];
      }
    }
  }
}

template <typename T>
LBAM_DEVICE void add_input(Results& results, Operands& operands, const Input& input, const Tile& tile, const Reconstruct& op) {
  for (std::int64_t start = 0; start < input.channels; start += kChunk) {
    __syncthreads();  // the chunk before has been read
    if (input.packed) {
      stage_patch<T, kPack<T>>(operands, input, start, tile, op);
    } else {
      stage_patch<T, 1>(operands, input, start, tile, op);
    }
    stage_weight<T>(operands, input, start);
    __syncthreads();
#pragma unroll 1
    for (int c = 0; c < kChunk; ++c) {
      add_channel(results, operands, c, static_cast<int>(threadIdx.y) * kRun, static_cast<int>(threadIdx.x));
    }
  }
}

LBAM_DEVICE float formed(float x, OutputForm form) {
  const float bell = detail::exponential(-2 * fabsf(x));
  return (form == OutputForm::kTanh ? (x < 0 ? bell : 1) : 1 - bell) / (1 + bell);
}

template <typename T>
__global__ void __launch_bounds__(kLayerThreads) reconstruct_kernel(const Reconstruct op, const Input skip, const Input own,
                                                                    std::int64_t tiles_down, std::int64_t tiles_across) {
  __shared__ Operands operands;
  const std::int64_t line_of_tiles = blockIdx.x / tiles_across;
  const Tile tile = {line_of_tiles / tiles_down, line_of_tiles % tiles_down * kRows, blockIdx.x % tiles_across * kColumns};
  Results results = {};
  add_input<T>(results, operands, skip, tile, op);
  add_input<T>(results, operands, own, tile, op);
#pragma unroll
  for (int i = 0; i < kRun * 4 * kColours; ++i) {
    float& x = results[i / (4 * kColours)][i / (2 * kColours) % 2][i / kColours % 2][i % kColours];
    x = formed(x, op.form);
  }

  const std::int64_t column = tile.left + threadIdx.x;
#pragma unroll
  for (int line = 0; line < 2 * kRun; ++line) {
    const std::int64_t row = 2 * (tile.top + static_cast<int>(threadIdx.y) * kRun) + line;
    if (row >= 2 * op.height || column >= op.width) return;
    const std::int64_t pixel = (tile.number * 2 * op.height + row) * 2 * op.width + 2 * column;
#pragma unroll
    for (int right = 0; right < 2; ++right) {
      const std::int64_t offset = (pixel + right) * kColours;
#pragma unroll
      for (int colour = 0; colour < kColours; ++colour) {
        static_cast<T*>(op.y)[offset + colour] = narrowed<T>(results[line / 2][line % 2][right][colour]);
      }
    }
  }
}

}  // namespace

cudaError_t lbam_cuda_reconstruct(const Reconstruct& op, cudaStream_t stream) {
  const std::int64_t down = divided_up(op.height, kRows), across = divided_up(op.width, kColumns);
  if (op.batch * down * across == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(op.batch * down * across)), block(kColumns, kWarps);
  return with_type(op.type, [&](auto element) {
    using T = decltype(element);
    const auto input = [](const void* x, const void* weight, std::int64_t channels) {
      return Input{x, weight, channels, channels % kPack<T> == 0 && aligned({x})};
    };
    const Input skip = input(op.skip, op.skip_weight, op.skip_channels), own = input(op.own, op.own_weight, op.own_channels);
    return launch(reconstruct_kernel<T>, grid, block, stream, op, skip, own, down, across);
  });
}

}  // namespace lbam::cuda
