// Tensors as the CPU library takes them, and its results.
#pragma once

#include "../cpu/lbam_cpu.h"
#include "tensor.h"

namespace lbam::binding {

using cpu::Input;
using cpu::Output;
using cpu::Type;

// PyTorch's threads; this one alone where its ABI does not have them.
inline cpu::ParallelFor threads() {
  std::uint32_t count = 1;
  if (torch_parallel_for == nullptr || torch_get_num_threads == nullptr) return {};
  done(torch_get_num_threads(&count));
  return {torch_parallel_for, count};
}

inline Type type_of(const Tensor& x) {
  static const std::int32_t wide = aoti_torch_dtype_float32(), narrow = aoti_torch_dtype_bfloat16();
  const std::int32_t dtype = x.dtype();
  require(dtype == wide || dtype == narrow, "tensors must be float32 or bfloat16");
  return dtype == wide ? Type::kFloat : Type::kBfloat16;
}

inline Input input(const Tensor& x) { return x ? Input{x.data(), type_of(x)} : Input{}; }
inline Output output(const Tensor& x) { return x ? Output{x.data(), type_of(x)} : Output{}; }

inline Tensor empty(std::int64_t dims, const std::int64_t* sizes, const std::int64_t* strides, Type type) {
  static const std::int32_t device = aoti_torch_device_type_cpu();
  const bool wide = type == Type::kFloat;
  return Tensor::empty(dims, sizes, strides, wide ? aoti_torch_dtype_float32() : aoti_torch_dtype_bfloat16(), device, 0);
}

inline Tensor empty(const Rows& like, Type type) { return empty(like.dims, like.sizes, like.strides, type); }

inline Tensor vector(std::int64_t count) {
  const std::int64_t stride = 1;
  return empty(1, &count, &stride, Type::kFloat);
}

inline Tensor absent(Type type) {
  const std::int64_t size = 0, stride = 1;
  return empty(1, &size, &stride, type);
}

inline float* floats(const Tensor& x) { return static_cast<float*>(x.data()); }

inline Gaussian<float> gaussian(const Tensor& scalars) {
  const float* const v = values(scalars, 4, "scalars: expected float32 [4]");
  return {v[0], v[1], v[2], v[3]};
}

constexpr const char* kAlpha = "alpha: expected one float32";
constexpr const char* kAffine = "scale, shift: expected both, float32 [C], or neither";

inline const float* per_channel(const Tensor& x, std::int64_t channels) { return x ? values(x, channels, kAffine) : nullptr; }

}  // namespace lbam::binding
