// The first encoder layer: few channels in, so that a block holds its filters and its part of the picture in shared memory.
#include "launch.h"
#include "parameters.h"

namespace lbam::cuda {
namespace {

constexpr int kRows = 8, kColumns = 16;                                      // of the output, a tile
constexpr int kPatchRows = 2 * kRows + 2, kPatchColumns = 2 * kColumns + 2;  // of the input that it reads
constexpr int kPixels = kPatchRows * kPatchColumns;
constexpr int kGroup = 64;  // channels of a block
constexpr int kOwn = 8;     // adjacent channels of a thread
constexpr int kRun = 4;     // adjacent columns of a thread
constexpr int kTaps = 16;
constexpr std::int64_t kFirstBlocks = kBlocks / 4;  // each stages its filters but once
static_assert(kRows * kColumns / kRun * (kGroup / kOwn) == kThreads);

// A pixel of three or four channels is one access.
template <int kChannels>
using Pixel = Pack<float, kChannels == 3 ? 4 : kChannels>;

template <int kChannels>
struct Operands {
  Pack<float, 4> weight[kTaps * kChannels][kGroup / 4];
  Pixel<kChannels> patch[kPixels];
};

// Where the pack with a channel lies: those that eight neighbouring threads read at a time lie side by side.
LBAM_DEVICE int place(int channel) { return channel % kOwn / 4 * (kGroup / kOwn) + channel / kOwn; }

template <typename T, int kChannels>
LBAM_DEVICE void stage_weight(Operands<kChannels>& to, const void* weight, std::int64_t start, std::int64_t channels) {
  for (int i = thread_of_block(); i < kTaps * kChannels * kGroup; i += kThreads) {
    const int tap = i / kGroup, channel = i % kGroup;
    const bool there = start + channel < channels;
    const auto* const row = static_cast<const T*>(weight) + (start + channel) * kTaps * kChannels;
    to.weight[tap][place(channel)].values[channel % 4] = there ? widened(row[tap]) : 0;
  }
}

template <typename T, int kChannels>
LBAM_DEVICE void stage_patch(Operands<kChannels>& to, const void* picture, std::int64_t top, std::int64_t left,
                             std::int64_t height, std::int64_t width) {
  for (int i = thread_of_block(); i < kPixels; i += kThreads) {
    const std::int64_t row = top + i / kPatchColumns, column = left + i % kPatchColumns;
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    const auto* const pixel = static_cast<const T*>(picture) + (row * width + column) * kChannels;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) to.patch[i].values[c] = inside ? widened(pixel[c]) : 0;
  }
}

using Results = float[kRun][kOwn];

template <int kChannels>
LBAM_DEVICE void convolve(Results& results, const Operands<kChannels>& from, int row, int column, int octet) {
#pragma unroll 1
  for (int kh = 0; kh < 4; ++kh) {
    const Pixel<kChannels>* const line = from.patch + (2 * row + kh) * kPatchColumns + 2 * column;
#pragma unroll
    for (int kw = 0; kw < 4; ++kw) {
      Pixel<kChannels> pixels[kRun];
#pragma unroll
      for (int p = 0; p < kRun; ++p) pixels[p] = line[2 * p + kw];
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        const Pack<float, 4>* const weight = from.weight[(kh * 4 + kw) * kChannels + c];
        const Pack<float, 4> low = weight[octet], high = weight[kGroup / kOwn + octet];
#pragma unroll
        for (int p = 0; p < kRun; ++p) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            results[p][k] += pixels[p].values[c] * low.values[k];
            results[p][4 + k] += pixels[p].values[c] * high.values[k];
          }
        }
      }
    }
  }
}

// Nothing where `to` is null.
template <typename T>
LBAM_DEVICE void store_channels(void* to, std::int64_t offset, const float (&from)[kOwn], std::int64_t count, bool packed) {
  if (to == nullptr) return;
  T* const own = static_cast<T*>(to) + offset;
  if (packed) {
    store(own, from);
  } else {
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      if (k < count) own[k] = narrowed<T>(from[k]);
    }
  }
}

template <typename T, int kImage, int kMask>
__global__ void __launch_bounds__(kThreads, 2)
    encode_kernel(const Encode op, std::int64_t tiles_down, std::int64_t tiles_across, bool packed) {
  __shared__ Operands<kImage> image;
  __shared__ Operands<kMask> mask;
  const int thread = thread_of_block();
  const int octet = thread % (kGroup / kOwn), run = thread / (kGroup / kOwn);
  const int row = run / (kColumns / kRun), column = run % (kColumns / kRun) * kRun;
  const std::int64_t group = static_cast<std::int64_t>(blockIdx.y) * kGroup, channel = group + octet * kOwn;
  const std::int64_t height = op.height / 2, width = op.width / 2, count = op.channels - channel;
  const Gaussian<float> gaussian = load_gaussian(op.parameters.scalars);
  const float alpha = op.u != nullptr ? *op.parameters.alpha : 1;
  stage_weight<T>(image, op.weight, group, op.channels);
  stage_weight<T>(mask, op.mask_weight, group, op.channels);

  for (std::int64_t tile = blockIdx.x; tile < op.batch * tiles_down * tiles_across; tile += gridDim.x) {
    const std::int64_t number = tile / (tiles_down * tiles_across);
    const std::int64_t top = tile / tiles_across % tiles_down * kRows, left = tile % tiles_across * kColumns;
    const std::int64_t mask_number = op.mask_batch == 1 ? 0 : number, pixels = op.height * op.width;
    __syncthreads();  // the last tile's patch has been read
    const T* const own_image = static_cast<const T*>(op.image) + number * pixels * kImage;
    const T* const own_mask = static_cast<const T*>(op.mask) + mask_number * pixels * kMask;
    stage_patch<T>(image, own_image, 2 * top - 1, 2 * left - 1, op.height, op.width);
    stage_patch<T>(mask, own_mask, 2 * top - 1, 2 * left - 1, op.height, op.width);
    __syncthreads();

    Results features = {}, m = {};
    convolve(features, image, row, column, octet);
    convolve(m, mask, row, column, octet);

    if (top + row >= height || count <= 0) continue;
    const Affine<kOwn> affine(op.parameters, channel, count);
#pragma unroll
    for (int p = 0; p < kRun; ++p) {
      if (left + column + p >= width) break;
      const std::int64_t position = (top + row) * width + left + column + p;
      const std::int64_t offset = (number * height * width + position) * op.channels + channel;
      store_channels<T>(op.features, offset, features[p], count, packed);
#pragma unroll
      for (int k = 0; k < kOwn; ++k) {
        features[p][k] = attend(features[p][k], m[p][k], gaussian, affine.scale[k], affine.shift[k], op.parameters.slope);
      }
      store_channels<T>(op.y, offset, features[p], count, packed);
      if (mask_number != number) continue;
      store_channels<T>(op.m, offset, m[p], count, packed);
      if (op.u == nullptr) continue;
#pragma unroll
      for (int k = 0; k < kOwn; ++k) m[p][k] = mask_update(m[p][k], alpha);
      store_channels<T>(op.u, offset, m[p], count, packed);
    }
  }
}

template <int kImage, int kMask>
cudaError_t run(const Encode& op, cudaStream_t stream) {
  const std::int64_t down = divided_up(op.height / 2, kRows), across = divided_up(op.width / 2, kColumns);
  const auto groups = static_cast<unsigned>(divided_up(op.channels, kGroup));
  if (op.batch * down * across * groups == 0) return cudaSuccess;
  const dim3 grid(blocks_for(op.batch * down * across, 1, kFirstBlocks / groups), groups);
  const bool packed = op.channels % kOwn == 0 && aligned({op.y, op.u, op.features, op.m});
  return with_type(op.type, [&](auto element) {
    return launch(encode_kernel<decltype(element), kImage, kMask>, grid, kThreads, stream, op, down, across, packed);
  });
}

}  // namespace

cudaError_t lbam_cuda_encode(const Encode& op, cudaStream_t stream) {
  if (op.image_channels == 3 && op.mask_channels == 1) return run<3, 1>(op, stream);
  if (op.image_channels == 3 && op.mask_channels == 3) return run<3, 3>(op, stream);
  if (op.image_channels == 4 && op.mask_channels == 1) return run<4, 1>(op, stream);
  if (op.image_channels == 4 && op.mask_channels == 3) return run<4, 3>(op, stream);
  return cudaErrorInvalidValue;
}

}  // namespace lbam::cuda
