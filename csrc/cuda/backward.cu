// The backward of the attention and of its statistics: partial sums of each block, then those of all blocks.
#include "combine.h"
#include "parameters.h"

namespace lbam::cuda {
namespace {

constexpr int kScalars = 5;  // a, mu, gamma_l, gamma_r, alpha

struct Partial {
  Sum* scalars;   // [blocks, 5]
  Sum* channels;  // [blocks along the positions, 2, channels], or null
};

// The gradient of the product features * g_A(m) from that of y; sums those of scale and shift.
template <typename T, int kWidth>
struct FromOutput {
  const AttendBackward& op;
  Affine<kWidth> affine;
  Sum sums[2 * kWidth] = {};
  float dy[kWidth];

  LBAM_DEVICE FromOutput(const AttendBackward& op, std::int64_t channel, bool there)
      : op(op), affine(op.parameters, channel, there ? kWidth : 0) {}

  LBAM_DEVICE void read(std::int64_t offset) { load(static_cast<const T*>(op.dy) + offset, dy); }

  LBAM_DEVICE float operator()(int k, float product) {
    const float gradient = leaky_gradient(product * affine.scale[k] + affine.shift[k], dy[k], op.parameters.slope);
    sums[k].value += gradient * product;
    sums[kWidth + k].value += gradient;
    return gradient * affine.scale[k];
  }

  LBAM_DEVICE void finish(const Partial& partial, std::int64_t channel, bool there) {
    if (partial.channels == nullptr) return;
    __shared__ Sum shared[2 * kWidth][kThreads];
    combine(sums, shared, static_cast<int>(blockDim.x));
    if (threadIdx.y != 0 || !there) return;
    Sum* const row = partial.channels + 2 * blockIdx.x * op.channels + channel;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      row[k] = sums[k];
      row[op.channels + k] = sums[kWidth + k];
    }
  }
};

// The same from the gradients of mean and variance.
template <typename T, int kWidth>
struct FromStatistics {
  float mean[kWidth], by_mean[kWidth], by_square[kWidth];

  LBAM_DEVICE FromStatistics(const StatisticsBackward& op, std::int64_t channel, bool there) {
    const float share = 1 / static_cast<float>(op.positions);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      mean[k] = there ? op.mean[channel + k] : 0;
      by_mean[k] = there ? op.dmean[channel + k] * share : 0;
      by_square[k] = there ? 2 * op.dvariance[channel + k] * share : 0;
    }
  }

  LBAM_DEVICE void read(std::int64_t) {}
  LBAM_DEVICE float operator()(int k, float product) const { return by_mean[k] + (product - mean[k]) * by_square[k]; }
  LBAM_DEVICE void finish(const Partial&, std::int64_t, bool) {}
};

// The gradient of m and alpha through u.
template <typename T, int kWidth>
LBAM_DEVICE void add_update(const AttendBackward& op, std::int64_t offset, const float (&m)[kWidth], float (&dm)[kWidth],
                            Sum& dalpha) {
  if (op.du == nullptr) return;
  const float alpha = *op.parameters.alpha;
  float du[kWidth];
  load(static_cast<const T*>(op.du) + offset, du);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    const UpdateDerivatives<float> update = update_derivatives(m[k], alpha);
    const float gradient = m[k] > 0 ? du[k] : 0;
    dm[k] += gradient * update.by_m;
    dalpha.value += gradient * update.by_alpha;
  }
}

template <typename T, int kWidth>
LBAM_DEVICE void add_update(const StatisticsBackward&, std::int64_t, const float (&)[kWidth], float (&)[kWidth], Sum&) {}

template <typename T, int kWidth, template <typename, int> typename Source, typename Op>
__global__ void __launch_bounds__(kThreads) backward_kernel(const Op op, const float* scalars, const Partial partial) {
  __shared__ Sum shared[kScalars][kThreads];
  const std::int64_t channel = first_channel<kWidth>();
  const bool there = channel < op.channels;
  const Gaussian<float> gaussian = load_gaussian(scalars);
  Source<T, kWidth> source(op, channel, there);
  Sum sums[kScalars] = {};
  for (std::int64_t position = first_position(); there && position < op.positions; position += position_step()) {
    const std::int64_t offset = position * op.channels + channel;
    float features[kWidth], m[kWidth], dfeatures[kWidth], dm[kWidth];
    load(static_cast<const T*>(op.features) + offset, features);
    load(static_cast<const T*>(op.m) + offset, m);
    source.read(offset);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const MapDerivatives<float> map = map_derivatives(m[k], gaussian);
      const float dproduct = source(k, features[k] * map.map);
      const float dmap = dproduct * features[k];
      dfeatures[k] = dproduct * map.map;
      dm[k] = dmap * map.by_m;
      sums[0].value += dmap * map.by_a;
      sums[1].value += dmap * map.by_mu;
      sums[2].value += dmap * map.by_gamma_l;
      sums[3].value += dmap * map.by_gamma_r;
    }
    add_update<T>(op, offset, m, dm, sums[4]);
    store(static_cast<T*>(op.dfeatures) + offset, dfeatures);
    store(static_cast<T*>(op.dm) + offset, dm);
  }
  combine(sums, shared, 1);
  if (thread_of_block() == 0) {
    Sum* const row = partial.scalars + (static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kScalars;
#pragma unroll
    for (int n = 0; n < kScalars; ++n) row[n] = sums[n];
  }
  source.finish(partial, channel, there);
}

struct StoreSum {
  float* to;

  LBAM_DEVICE void operator()(std::int64_t column, const Sum& sum) const { to[column] = sum.value; }
};

template <template <typename, int> typename Source, typename Op>
cudaError_t backward(const Op& op, const float* scalars, float* dchannels, std::initializer_list<const void*> tensors,
                     cudaStream_t stream) {
  if (op.channels == 0) return cudaSuccess;
  return with_pack(op.type, op.channels, tensors, [&](auto element, auto width) {
    const Share share(op.positions, op.channels, width);
    const std::int64_t blocks = static_cast<std::int64_t>(share.grid.x) * share.grid.y;
    Sum* const sums = static_cast<Sum*>(op.workspace);
    const Partial partial{sums, dchannels != nullptr ? sums + blocks * kScalars : nullptr};
    const auto kernel = backward_kernel<decltype(element), width, Source, Op>;
    cudaError_t error = launch(kernel, share.grid, share.block, stream, op, scalars, partial);
    if (error == cudaSuccess) error = combine_rows<Sum>(partial.scalars, blocks, kScalars, StoreSum{op.dscalars}, stream);
    if (error != cudaSuccess || dchannels == nullptr) return error;
    return combine_rows<Sum>(partial.channels, share.grid.x, 2 * op.channels, StoreSum{dchannels}, stream);
  });
}

}  // namespace

std::int64_t lbam_cuda_backward_workspace(std::int64_t positions, std::int64_t channels) {
  const auto sums = [channels](dim3 grid) { return grid.x * (static_cast<std::int64_t>(grid.y) * kScalars + 2 * channels); };
  return largest(positions, channels, sums) * static_cast<std::int64_t>(sizeof(Sum));
}

cudaError_t lbam_cuda_attend_backward(const AttendBackward& op, cudaStream_t stream) {
  float* const dchannels = op.parameters.scale != nullptr ? op.dchannels : nullptr;
  return backward<FromOutput>(op, op.parameters.scalars, dchannels, {op.dy, op.du, op.features, op.m, op.dfeatures, op.dm},
                              stream);
}

cudaError_t lbam_cuda_statistics_backward(const StatisticsBackward& op, cudaStream_t stream) {
  return backward<FromStatistics>(op, op.scalars, nullptr, {op.features, op.m, op.dfeatures, op.dm}, stream);
}

}  // namespace lbam::cuda
