// The pointwise ops. The meaning of the arguments is that of lbam_fast.ops.eager.
#include "cpu_ops.h"
#include "cpu_tensors.h"

namespace lbam::binding {
namespace {

constexpr const char* kFeatures = "features: expected a dense channels_last [N, C, H, W] or [positions, C], C > 0";
constexpr const char* kM = "m: expected the shape of features, dense and channels_last, or for attend that with batch 1";
constexpr const char* kGradient = "dy, du: expected the shape of features, dense and channels_last";
constexpr const char* kStatistics = "dmean, dvariance, mean: expected float32 [C]";

}  // namespace

void attend(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor features(stack[0]), m(stack[1]), scalars(stack[2]), alpha(stack[3]), scale(Tensor::optional(stack[4])),
      shift(Tensor::optional(stack[5]));
  const bool update = flag(stack[7]);
  const Rows all = rows(features, kFeatures), shared = rows(m, kM);
  Rows expected = all;
  expected.sizes[0] = shared.sizes[0];
  const bool fits = shared == expected && (all == shared || (all.dims == 4 && shared.sizes[0] == 1));
  require(fits, kM);
  require(static_cast<bool>(scale) == static_cast<bool>(shift), kAffine);
  Tensor y = empty(all, type_of(features)), u = update ? empty(shared, type_of(m)) : absent(type_of(m));
  cpu::attend({all == shared ? 1 : all.sizes[0], shared.positions, all.channels, input(features), input(m), gaussian(scalars),
               *values(alpha, 1, kAlpha), per_channel(scale, all.channels), per_channel(shift, all.channels),
               static_cast<float>(number(stack[6])), output(y), update ? output(u) : Output{}},
              threads());
  stack[0] = y.release();
  stack[1] = u.release();
}

void maps(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor m(stack[0]), scalars(Tensor::optional(stack[1])), alpha(Tensor::optional(stack[2]));
  const Type type = flag(stack[3]) ? Type::kBfloat16 : Type::kFloat;
  const Rows all = rows(m, "m: expected a dense channels_last [N, C, H, W] or [positions, C], C > 0");
  Tensor map = scalars ? empty(all, type) : absent(type), update = alpha ? empty(all, type) : absent(type);
  cpu::maps({all.positions * all.channels, input(m), scalars ? gaussian(scalars) : Gaussian<float>{},
             alpha ? *values(alpha, 1, kAlpha) : 1, scalars ? output(map) : Output{}, alpha ? output(update) : Output{}},
            threads());
  stack[0] = map.release();
  stack[1] = update.release();
}

void attend_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor dy(stack[0]), du(Tensor::optional(stack[1])), features(stack[2]), m(stack[3]), scalars(stack[4]), alpha(stack[5]),
      scale(Tensor::optional(stack[6])), shift(Tensor::optional(stack[7]));
  const Rows all = rows(features, kFeatures);
  require(rows(m, kM) == all, kM);
  require(rows(dy, kGradient) == all && (!du || rows(du, kGradient) == all), kGradient);
  require(static_cast<bool>(scale) == static_cast<bool>(shift), kAffine);
  const std::int64_t affine = scale ? all.channels : 0;
  Tensor dfeatures = empty(all, type_of(features)), dm = empty(all, type_of(m)), dscalars = vector(4),
         dalpha = empty(0, nullptr, nullptr, Type::kFloat), dscale = vector(affine), dshift = vector(affine);
  cpu::attend_backward(
      {all.positions, all.channels, input(dy), input(du), input(features), input(m), gaussian(scalars), *values(alpha, 1, kAlpha),
       per_channel(scale, all.channels), per_channel(shift, all.channels), static_cast<float>(number(stack[8])),
       output(dfeatures), output(dm), floats(dscalars), floats(dalpha), floats(dscale), floats(dshift)},
      threads());
  Tensor* const results[] = {&dfeatures, &dm, &dscalars, &dalpha, &dscale, &dshift};
  for (int i = 0; i < 6; ++i) stack[i] = results[i]->release();
}

void statistics(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor features(stack[0]), m(stack[1]), scalars(stack[2]);
  const Rows all = rows(features, kFeatures);
  require(rows(m, kM) == all, kM);
  Tensor mean = vector(all.channels), variance = vector(all.channels);
  cpu::statistics({all.positions, all.channels, input(features), input(m), gaussian(scalars), floats(mean), floats(variance)},
                  threads());
  stack[0] = mean.release();
  stack[1] = variance.release();
}

void statistics_backward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor dmean(stack[0]), dvariance(stack[1]), mean(stack[2]), features(stack[3]), m(stack[4]), scalars(stack[5]);
  const Rows all = rows(features, kFeatures);
  require(rows(m, kM) == all, kM);
  Tensor dfeatures = empty(all, type_of(features)), dm = empty(all, type_of(m)), dscalars = vector(4);
  cpu::statistics_backward({all.positions, all.channels, values(dmean, all.channels, kStatistics),
                            values(dvariance, all.channels, kStatistics), values(mean, all.channels, kStatistics),
                            input(features), input(m), gaussian(scalars), output(dfeatures), output(dm), floats(dscalars)},
                           threads());
  stack[0] = dfeatures.release();
  stack[1] = dm.release();
  stack[2] = dscalars.release();
}

}  // namespace lbam::binding
