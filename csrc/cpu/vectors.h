// Vectors of floats in the widest registers of the instruction set, as the matrix products use them.
#pragma once

#include "rows.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

#if defined(__AVX512F__)

using Vector = __m512;
constexpr int kLanes = 16;
constexpr int kMostRows = 14;  // with two vectors each, and three for the operands, all 32 registers but one
inline Vector load(const float* x) { return _mm512_loadu_ps(x); }
inline void store(float* x, Vector v) { _mm512_storeu_ps(x, v); }
inline Vector repeated(float x) { return _mm512_set1_ps(x); }
inline Vector multiplied_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

#elif defined(__AVX2__)

using Vector = __m256;
constexpr int kLanes = 8;
constexpr int kMostRows = 6;
inline Vector load(const float* x) { return _mm256_loadu_ps(x); }
inline void store(float* x, Vector v) { _mm256_storeu_ps(x, v); }
inline Vector repeated(float x) { return _mm256_set1_ps(x); }
inline Vector multiplied_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

#else

typedef float Vector __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kMostRows = 6;
inline Vector load(const float* x) {
  Vector v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
inline void store(float* x, Vector v) { std::memcpy(x, &v, sizeof v); }
inline Vector repeated(float x) { return Vector{x, x, x, x}; }
inline Vector multiplied_add(Vector a, Vector b, Vector c) { return a * b + c; }

#endif

#if defined(__AVX512BF16__)
inline Vector load(const std::uint16_t* x) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))), 16));
}
inline void store(std::uint16_t* x, Vector v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}
#else
inline Vector load(const std::uint16_t* x) {
  float values[kLanes];
  for (int j = 0; j < kLanes; ++j) values[j] = widened(x[j]);
  return load(values);
}
inline void store(std::uint16_t* x, Vector v) {
  float values[kLanes];
  store(values, v);
  for (int j = 0; j < kLanes; ++j) x[j] = narrowed(values[j]);
}
#endif

// A word of a row, repeated for every lane. The compiler is kept from folding it into each use, which would load it as often.
inline Vector spread_out(float word) {
  Vector v = repeated(word);
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#endif
  return v;
}

// c + a * b, where b holds a word for each lane.
inline Vector product_added(Vector a, const float* b, Vector c) { return multiplied_add(a, load(b), c); }

#if defined(__AVX512BF16__)
constexpr bool kBfloat16Products = true;

inline Vector spread_out(std::uint32_t word) {
  float bits;
  std::memcpy(&bits, &word, sizeof bits);
  return spread_out(bits);
}

inline Vector product_added(Vector a, const std::uint32_t* b, Vector c) {
  const Vector both = load(reinterpret_cast<const float*>(b));
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(both));
}
#else
constexpr bool kBfloat16Products = false;
#endif

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
