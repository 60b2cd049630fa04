// Stored elements: their conversion to and from float, and packs of them that one instruction moves.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "lbam_cuda.h"

#define LBAM_DEVICE __device__ __forceinline__

namespace lbam::cuda {

LBAM_DEVICE float widened(float x) { return x; }
LBAM_DEVICE float widened(__half x) { return __half2float(x); }
LBAM_DEVICE float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
LBAM_DEVICE T narrowed(float x);
template <>
LBAM_DEVICE float narrowed(float x) {
  return x;
}
template <>
LBAM_DEVICE __half narrowed(float x) {
  return __float2half_rn(x);
}
template <>
LBAM_DEVICE __nv_bfloat16 narrowed(float x) {
  return __float2bfloat16_rn(x);
}
template <>
LBAM_DEVICE std::uint8_t narrowed(float x) {  // of [0, 1]; NaN becomes 0
  return static_cast<std::uint8_t>(fmaxf(rintf(255 * x), 0));
}

template <typename T>
constexpr int kPack = 16 / sizeof(T);

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <typename T, int N>
LBAM_DEVICE void load(const T* from, float (&to)[N]) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
  for (int k = 0; k < N; ++k) to[k] = widened(pack.values[k]);
}

// In packs of at most 16 bytes.
template <typename T, int N>
LBAM_DEVICE void store(T* to, const float (&from)[N]) {
  constexpr int kStep = N < kPack<T> ? N : kPack<T>;
#pragma unroll
  for (int start = 0; start < N; start += kStep) {
    Pack<T, kStep> pack;
#pragma unroll
    for (int k = 0; k < kStep; ++k) pack.values[k] = narrowed<T>(from[start + k]);
    if constexpr (sizeof(pack) == sizeof(uint4)) {  // by a function that compilers do not take apart
      uint4 bits;
      std::memcpy(&bits, &pack, sizeof bits);
      __stwb(reinterpret_cast<uint4*>(to + start), bits);
    } else {
      *reinterpret_cast<Pack<T, kStep>*>(to + start) = pack;
    }
  }
}

// Whether packs of 16 bytes may be moved; null, which nothing is moved through, may be among the pointers.
inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) return false;
  }
  return true;
}

// `use` called with an element of the type.
template <typename Use>
cudaError_t with_type(Type type, const Use& use) {
  switch (type) {
    case Type::kFloat: return use(float());
    case Type::kHalf: return use(__half());
    case Type::kBfloat16: return use(__nv_bfloat16());
  }
  return cudaErrorInvalidValue;
}

}  // namespace lbam::cuda
