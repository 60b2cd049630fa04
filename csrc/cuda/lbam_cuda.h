// The fused ops on NVIDIA GPUs: what they take and give, without any header of PyTorch.
//
// All pointers are to device memory. Tensors are contiguous [N, H, W, C], or [positions, channels] where only that matters,
// stored as `type` says and computed in float; statistics and gradients of parameters are float. Packs of 16 bytes are moved
// where channels and pointers are multiples of them, single elements elsewhere. No function allocates, synchronises or uses
// atomics, so that CUDA graphs can capture them and two runs agree to the bit. Each returns the status of its launches, or
// cudaErrorInvalidValue for arguments it does not know.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace lbam::cuda {

enum class Type : std::int32_t { kFloat, kHalf, kBfloat16 };

// The parameters of an attention.
struct Parameters {
  const float* scalars;  // [4]: a, mu, gamma_l, gamma_r
  const float* alpha;    // [1]; null where no g_M is asked for
  const float* scale;    // [channels] of a folded BatchNorm, or null
  const float* shift;    // [channels], null with scale
  float slope;           // of the LeakyReLU; 1 for none
};

// y = leaky(scale * features * g_A(m) + shift), u = g_M(m)
struct Attend {
  Type type;
  Parameters parameters;
  const void* features;  // [parts, positions, channels]; null for 1 everywhere
  const void* m;         // [positions, channels], shared by all parts
  void* y;               // as features, or null
  void* u;               // as m, or null
  std::int64_t parts, positions, channels;
};

// The gradients of Attend with one part.
struct AttendBackward {
  Type type;
  Parameters parameters;
  const void* dy;
  const void* du;  // null without u
  const void* features;
  const void* m;
  void* dfeatures;
  void* dm;
  float* dscalars;   // [5]: a, mu, gamma_l, gamma_r, alpha (0 without du)
  float* dchannels;  // [2, channels]: scale, shift; null without scale
  void* workspace;   // lbam_cuda_backward_workspace bytes, aligned to 4
  std::int64_t positions, channels;
};

// Mean and biased variance over the positions of features * g_A(m).
struct Statistics {
  Type type;
  const float* scalars;  // [4]
  const void* features;
  const void* m;
  float* mean;      // [channels]
  float* variance;  // [channels]
  void* workspace;  // lbam_cuda_statistics_workspace bytes, aligned to 4
  std::int64_t positions, channels;
};

struct StatisticsBackward {
  Type type;
  const float* scalars;    // [4]
  const float* dmean;      // [channels]
  const float* dvariance;  // [channels]
  const float* mean;       // [channels]
  const void* features;
  const void* m;
  void* dfeatures;
  void* dm;
  float* dscalars;  // [5]: a, mu, gamma_l, gamma_r, 0
  void* workspace;  // lbam_cuda_backward_workspace bytes, aligned to 4
  std::int64_t positions, channels;
};

// The first encoder layer: both 4x4 convolutions with stride 2 and padding 1, and their attention.
struct Encode {
  Type type;
  Parameters parameters;
  const void* image;                              // [batch, height, width, image_channels]: 3 or 4 channels
  const void* mask;                               // [mask_batch, height, width, mask_channels]: 1 or 3 channels
  const void* weight;                             // [channels, 4, 4, image_channels]
  const void* mask_weight;                        // [channels, 4, 4, mask_channels]
  void* y;                                        // [batch, height / 2, width / 2, channels]
  void* u;                                        // [mask_batch, height / 2, width / 2, channels], or null
  void* features;                                 // the image's convolution, as y, or null
  void* m;                                        // the mask's convolution, as u, or null
  std::int64_t batch, mask_batch, height, width;  // mask_batch is batch or 1
  std::int64_t image_channels, mask_channels, channels;
};

enum class OutputForm : std::int32_t { kTanh, kAbsTanh };  // (tanh(x) + 1) / 2, |tanh(x)|

// The last decoder layer: a transposed 4x4 convolution with stride 2 and padding 1 of two inputs, in [0, 1].
struct Reconstruct {
  Type type;
  OutputForm form;
  const void* skip;         // [batch, height, width, skip_channels]; null with skip_channels 0
  const void* own;          // [batch, height, width, own_channels]
  const void* skip_weight;  // [skip_channels, 3, 4, 4]
  const void* own_weight;   // [own_channels, 3, 4, 4]
  void* y;                  // [batch, 2 * height, 2 * width, 3]
  std::int64_t batch, height, width;
  std::int64_t skip_channels, own_channels;
};

// What a mask chain holds at a position: 0 wherever it reads, its constant of known areas, or neither for certain.
constexpr std::uint8_t kHole = 0, kKnown = 1, kMixed = 2;

// The classes of a mask: all channels 0, all 1, or else mixed.
struct ClassifyMask {
  Type type;
  const void* mask;       // [positions, channels]
  std::uint8_t* classes;  // [positions]
  std::int64_t positions, channels;
};

// The classes after a convolution with 4x4 taps, stride 2 and padding 1; outside the picture is hole.
struct ClassifyNext {
  const std::uint8_t* classes;  // [batch, height, width]
  std::uint8_t* next;           // [batch, height / 2, width / 2]
  std::int64_t batch, height, width;
};

// The positions, hole first, mixed last, those of one class in ascending order.
struct SortedPositions {
  const std::uint8_t* classes;  // [positions], at most 2^31 - 1
  std::int32_t* order;          // [positions]
  std::uint8_t* sorted;         // [positions]: the classes in that order
  void* workspace;              // lbam_cuda_sorted_workspace bytes, aligned to 8
  std::int64_t positions;
};

extern "C" {
cudaError_t lbam_cuda_attend(const Attend& op, cudaStream_t stream);

std::int64_t lbam_cuda_backward_workspace(std::int64_t positions, std::int64_t channels);
cudaError_t lbam_cuda_attend_backward(const AttendBackward& op, cudaStream_t stream);
cudaError_t lbam_cuda_statistics_backward(const StatisticsBackward& op, cudaStream_t stream);

std::int64_t lbam_cuda_statistics_workspace(std::int64_t positions, std::int64_t channels);
cudaError_t lbam_cuda_statistics(const Statistics& op, cudaStream_t stream);

cudaError_t lbam_cuda_encode(const Encode& op, cudaStream_t stream);
cudaError_t lbam_cuda_reconstruct(const Reconstruct& op, cudaStream_t stream);

cudaError_t lbam_cuda_classify_mask(const ClassifyMask& op, cudaStream_t stream);
cudaError_t lbam_cuda_classify_next(const ClassifyNext& op, cudaStream_t stream);
std::int64_t lbam_cuda_sorted_workspace();
cudaError_t lbam_cuda_sorted_positions(const SortedPositions& op, cudaStream_t stream);
}

}  // namespace lbam::cuda
