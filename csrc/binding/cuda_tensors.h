// Tensors as the CUDA library takes them, its results, and where it runs.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "../cuda/lbam_cuda.h"
#include "tensor.h"

namespace lbam::binding {

using cuda::Parameters;
using cuda::Type;

inline void done(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("lbam_native_cuda: ") + cudaGetErrorString(error));
}

// A device that is the current one while this lives.
class Guard {
 public:
  explicit Guard(std::int32_t device) { done(aoti_torch_create_cuda_guard(device, &handle_)); }
  ~Guard() { aoti_torch_delete_cuda_guard(handle_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  CUDAGuardHandle handle_ = nullptr;
};

inline std::int32_t device_of(const Tensor& x) {
  require(x.device_type() == aoti_torch_device_type_cuda(), "tensors must be on one CUDA device");
  return x.device_index();
}

// The device and the stream of one call: those of its tensors, of which some may be absent.
class Place {
 public:
  Place(const Tensor& lead, std::initializer_list<const Tensor*> others) : index_(device_of(lead)), guard_(index_) {
    for (const Tensor* x : others)
      if (*x) require(device_of(*x) == index_, "tensors must be on one CUDA device");
    done(aoti_torch_get_current_cuda_stream(index_, &stream_));
    done(cudaSetDevice(index_));  // of this library's own copy of the runtime
  }

  cudaStream_t stream() const { return static_cast<cudaStream_t>(stream_); }

  Tensor empty(std::int64_t dims, const std::int64_t* sizes, const std::int64_t* strides, std::int32_t dtype) const {
    return Tensor::empty(dims, sizes, strides, dtype, aoti_torch_device_type_cuda(), index_);
  }
  Tensor empty(const Rows& like, std::int32_t dtype) const { return empty(like.dims, like.sizes, like.strides, dtype); }
  Tensor vector(std::int64_t count, std::int32_t dtype) const {
    const std::int64_t stride = 1;
    return empty(1, &count, &stride, dtype);
  }
  Tensor floats(std::int64_t count) const { return vector(count, aoti_torch_dtype_float32()); }
  Tensor bytes(std::int64_t count) const { return vector(count, aoti_torch_dtype_uint8()); }

 private:
  std::int32_t index_;
  Guard guard_;
  void* stream_ = nullptr;
};

inline Type type_of(const Tensor& x) {
  const std::int32_t dtype = x.dtype();
  if (dtype == aoti_torch_dtype_float32()) return Type::kFloat;
  if (dtype == aoti_torch_dtype_float16()) return Type::kHalf;
  require(dtype == aoti_torch_dtype_bfloat16(), "tensors must be float32, float16 or bfloat16");
  return Type::kBfloat16;
}

inline void require_dtype(std::int32_t dtype, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* x : tensors) require(!*x || x->dtype() == dtype, "features, masks and gradients must have one dtype");
}

inline void* data(const Tensor& x) { return x ? x.data() : nullptr; }

inline const float* scalars(const Tensor& x) { return values(x, 4, "scalars: expected float32 [4]"); }

inline Parameters parameters(const Tensor& scalars_, const Tensor& alpha, const Tensor& scale, const Tensor& shift,
                             std::int64_t channels, double slope) {
  constexpr const char* affine = "scale, shift: expected both, float32 [C], or neither";
  require(static_cast<bool>(scale) == static_cast<bool>(shift), affine);
  return {scalars(scalars_), values(alpha, 1, "alpha: expected one float32"), scale ? values(scale, channels, affine) : nullptr,
          shift ? values(shift, channels, affine) : nullptr, static_cast<float>(slope)};
}

}  // namespace lbam::binding
