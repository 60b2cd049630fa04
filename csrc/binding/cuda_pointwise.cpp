// The pointwise ops. The meaning of the arguments is that of lbam_fast.ops.eager.
#include "cuda_ops.h"
#include "cuda_tensors.h"

namespace lbam::binding {
namespace {

constexpr const char* kFeatures = "features: expected a dense channels_last [N, C, H, W] or [positions, C], C > 0";
constexpr const char* kM = "m: expected the shape of features, dense and channels_last, or for attend that with batch 1";
constexpr const char* kGradient = "dy, du: expected the shape of features, dense and channels_last";
constexpr const char* kStatistics = "dmean, dvariance, mean: expected float32 [C]";

// Features and m of one shape.
Rows pair(const Tensor& features, const Tensor& m) {
  const Rows all = rows(features, kFeatures);
  require(rows(m, kM) == all, kM);
  require_dtype(features.dtype(), {&m});
  return all;
}

// Of them the convolution's gradients, and dscalars with dalpha.
struct Gradients {
  Tensor features, m, scalars;

  Gradients(const Place& place, const Rows& like, std::int32_t dtype)
      : features(place.empty(like, dtype)), m(place.empty(like, dtype)), scalars(place.floats(5)) {}

  void release(StableIValue* stack) {
    stack[0] = features.release();
    stack[1] = m.release();
    stack[2] = scalars.release();
  }
};

}  // namespace

void attend(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor features(stack[0]), m(stack[1]), scalars(stack[2]), alpha(stack[3]), scale(Tensor::optional(stack[4])),
      shift(Tensor::optional(stack[5]));
  const Place place(features, {&m, &scalars, &alpha, &scale, &shift});
  const Rows all = rows(features, kFeatures), shared = rows(m, kM);
  Rows expected = all;
  expected.sizes[0] = shared.sizes[0];
  require(shared == expected && (all == shared || (all.dims == 4 && shared.sizes[0] == 1)), kM);
  require_dtype(features.dtype(), {&m});
  Tensor y = place.empty(all, features.dtype()), u = flag(stack[7]) ? place.empty(shared, m.dtype()) : Tensor();
  done(cuda::lbam_cuda_attend(
      {type_of(features), parameters(scalars, alpha, scale, shift, all.channels, number(stack[6])), features.data(), m.data(),
       y.data(), data(u), all == shared ? 1 : all.sizes[0], shared.positions, all.channels},
      place.stream()));
  if (!u) u = place.vector(0, m.dtype());
  stack[0] = y.release();
  stack[1] = u.release();
}

void maps(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor m(stack[0]), scalars(stack[1]), alpha(stack[2]), none;
  const bool mapped = flag(stack[3]), updated = flag(stack[4]);
  const Place place(m, {&scalars, &alpha});
  const Rows all = rows(m, "m: expected a dense channels_last [N, C, H, W] or [positions, C], C > 0");
  Tensor map = mapped ? place.empty(all, m.dtype()) : Tensor(), update = updated ? place.empty(all, m.dtype()) : Tensor();
  done(cuda::lbam_cuda_attend({type_of(m), parameters(scalars, alpha, none, none, all.channels, 1), nullptr, m.data(), data(map),
                               data(update), 1, all.positions, all.channels},
                              place.stream()));
  for (Tensor* x : {&map, &update})
    if (!*x) *x = place.vector(0, m.dtype());
  stack[0] = map.release();
  stack[1] = update.release();
}

void attend_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor dy(stack[0]), du(Tensor::optional(stack[1])), features(stack[2]), m(stack[3]), scalars(stack[4]), alpha(stack[5]),
      scale(Tensor::optional(stack[6])), shift(Tensor::optional(stack[7]));
  const Place place(features, {&dy, &du, &m, &scalars, &alpha, &scale, &shift});
  const Rows all = pair(features, m);
  require(rows(dy, kGradient) == all && (!du || rows(du, kGradient) == all), kGradient);
  require_dtype(features.dtype(), {&dy, &du});
  Gradients gradients(place, all, features.dtype());
  Tensor channels = place.floats(scale ? 2 * all.channels : 0);
  const Tensor workspace = place.bytes(cuda::lbam_cuda_backward_workspace(all.positions, all.channels));
  done(cuda::lbam_cuda_attend_backward(
      {type_of(features), parameters(scalars, alpha, scale, shift, all.channels, number(stack[8])), dy.data(), data(du),
       features.data(), m.data(), gradients.features.data(), gradients.m.data(), static_cast<float*>(gradients.scalars.data()),
       scale ? static_cast<float*>(channels.data()) : nullptr, workspace.data(), all.positions, all.channels},
      place.stream()));
  gradients.release(stack);
  stack[3] = channels.release();
}

void statistics(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor features(stack[0]), m(stack[1]), scalars_(stack[2]);
  const Place place(features, {&m, &scalars_});
  const Rows all = pair(features, m);
  Tensor mean = place.floats(all.channels), variance = place.floats(all.channels);
  const Tensor workspace = place.bytes(cuda::lbam_cuda_statistics_workspace(all.positions, all.channels));
  done(cuda::lbam_cuda_statistics(
      {type_of(features), scalars(scalars_), features.data(), m.data(), static_cast<float*>(mean.data()),
       static_cast<float*>(variance.data()), workspace.data(), all.positions, all.channels},
      place.stream()));
  stack[0] = mean.release();
  stack[1] = variance.release();
}

void statistics_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor dmean(stack[0]), dvariance(stack[1]), mean(stack[2]), features(stack[3]), m(stack[4]), scalars_(stack[5]);
  const Place place(features, {&dmean, &dvariance, &mean, &m, &scalars_});
  const Rows all = pair(features, m);
  Gradients gradients(place, all, features.dtype());
  const Tensor workspace = place.bytes(cuda::lbam_cuda_backward_workspace(all.positions, all.channels));
  done(cuda::lbam_cuda_statistics_backward(
      {type_of(features), scalars(scalars_), values(dmean, all.channels, kStatistics),
       values(dvariance, all.channels, kStatistics), values(mean, all.channels, kStatistics), features.data(), m.data(),
       gradients.features.data(), gradients.m.data(), static_cast<float*>(gradients.scalars.data()), workspace.data(),
       all.positions, all.channels},
      place.stream()));
  gradients.release(stack);
}

}  // namespace lbam::binding
