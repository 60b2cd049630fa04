// Tensors and arguments of PyTorch's stable C ABI, and the checks that all bindings share.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "stable_abi.h"

namespace lbam::binding {

// An argument that an op refuses: Python's ValueError.
inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(std::string("lbam_native: ") + message);
}

inline void done(AOTITorchError error) {
  if (error != 0) throw std::runtime_error("lbam_native: a call into PyTorch failed");
}

// An owned tensor, or none.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(StableIValue argument) : handle_(reinterpret_cast<AtenTensorHandle>(argument)) {}
  Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
  }

  // An argument of the type `Tensor?`.
  static Tensor optional(StableIValue argument) {
    StableIValue* const boxed = reinterpret_cast<StableIValue*>(argument);
    if (boxed == nullptr) return Tensor();
    Tensor result(*boxed);
    delete boxed;
    return result;
  }

  // Uninitialised.
  static Tensor empty(std::int64_t dims, const std::int64_t* sizes, const std::int64_t* strides, std::int32_t dtype,
                      std::int32_t device_type, std::int32_t device_index) {
    Tensor result;
    done(aoti_torch_empty_strided(dims, sizes, strides, dtype, device_type, device_index, &result.handle_));
    return result;
  }

  explicit operator bool() const { return handle_ != nullptr; }
  StableIValue release() { return reinterpret_cast<StableIValue>(std::exchange(handle_, nullptr)); }

  void* data() const { return got<void*>(aoti_torch_get_data_ptr); }
  std::int64_t dims() const { return got<std::int64_t>(aoti_torch_get_dim); }
  const std::int64_t* sizes() const { return got<std::int64_t*>(aoti_torch_get_sizes); }
  const std::int64_t* strides() const { return got<std::int64_t*>(aoti_torch_get_strides); }
  std::int32_t dtype() const { return got<std::int32_t>(aoti_torch_get_dtype); }
  std::int32_t device_type() const { return got<std::int32_t>(aoti_torch_get_device_type); }
  std::int32_t device_index() const { return got<std::int32_t>(aoti_torch_get_device_index); }

 private:
  template <typename T>
  T got(AOTITorchError (*get)(AtenTensorHandle, T*)) const {
    T value;
    done(get(handle_, &value));
    return value;
  }

  AtenTensorHandle handle_ = nullptr;
};

inline double number(StableIValue argument) {
  double value;
  std::memcpy(&value, &argument, sizeof value);
  return value;
}

inline bool flag(StableIValue argument) { return (argument & 0xff) != 0; }

// [N, C, H, W] or [positions, C] as rows of channels.
struct Rows {
  std::int64_t dims, sizes[4], strides[4], positions, channels;

  bool operator==(const Rows& other) const {
    return dims == other.dims && std::memcmp(sizes, other.sizes, dims * sizeof *sizes) == 0;
  }
  bool operator!=(const Rows& other) const { return !(*this == other); }
};

// Refuses a tensor that is not dense with the channels innermost.
inline Rows rows(const Tensor& x, const char* message) {
  Rows r{};
  r.dims = x.dims();
  require(r.dims == 4 || r.dims == 2, message);
  std::memcpy(r.sizes, x.sizes(), r.dims * sizeof *r.sizes);
  r.channels = r.sizes[1];
  const int order[] = {1, 3, 2, 0};  // innermost first
  std::int64_t stride = 1;
  const std::int64_t* const found = x.strides();
  bool dense = r.channels > 0;
  for (const int axis : order) {
    if (axis >= r.dims) continue;
    dense = dense && (r.sizes[axis] <= 1 || found[axis] == stride);
    r.strides[axis] = stride;
    stride *= r.sizes[axis] > 0 ? r.sizes[axis] : 1;
  }
  r.positions = r.sizes[0] * (r.dims == 4 ? r.sizes[2] * r.sizes[3] : 1);
  require(dense || r.positions == 0, message);
  require(r.channels > 0, message);
  return r;
}

// The elements of a dense float32 tensor of `count` elements.
inline float* values(const Tensor& x, std::int64_t count, const char* message) {
  const std::int64_t dims = x.dims();
  const bool dense = dims == 0 ? count == 1 : dims == 1 && x.sizes()[0] == count && (count <= 1 || x.strides()[0] == 1);
  require(dense && x.dtype() == aoti_torch_dtype_float32(), message);
  return static_cast<float*>(x.data());
}

}  // namespace lbam::binding
