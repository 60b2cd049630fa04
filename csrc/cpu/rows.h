// How a kernel passes over its tensors: pieces of a few hundred elements, in float, that stay in the nearest cache.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels.h"

// Before a loop whose iterations are independent.
#if defined(__clang__)
#define LBAM_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define LBAM_VECTORISE _Pragma("GCC ivdep")
#endif

// Before a loop of few iterations that are to be written out.
#if defined(__clang__)
#define LBAM_UNROLL _Pragma("unroll")
#else
#define LBAM_UNROLL _Pragma("GCC unroll 16")
#endif

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

using std::int64_t;

constexpr int64_t kPiece = 256;   // elements, about
constexpr int64_t kTask = 32768;  // elements for which a thread is worth its start, about

// Zeros. Large ones take memory where they are first touched.
template <typename T>
struct Scratch {
  explicit Scratch(int64_t count) : data(static_cast<T*>(std::calloc(static_cast<std::size_t>(count), sizeof(T)))) {
    if (data == nullptr && count > 0) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* const data;
};

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }
inline int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

// [positions, channels] as pieces of several whole positions: column j of each belongs to channel j % channels.
struct Pieces {
  Pieces(int64_t positions, int64_t channels)
      : elements(positions * channels),
        width(channels >= kPiece ? channels : kPiece / channels * channels),
        count(ceiling(elements, width)) {}

  int64_t begin(int64_t piece) const { return piece * width; }
  int64_t size(int64_t piece) const { return least(width, elements - piece * width); }

  const int64_t elements, width, count;
};

// A value for each channel as one for each column; `otherwise` without values.
inline void spread(const float* values, float otherwise, int64_t channels, int64_t width, float* columns) {
  for (int64_t j = 0; j < width; ++j) columns[j] = values == nullptr ? otherwise : values[j % channels];
}

inline float widened(std::uint16_t x) { return detail::float_of(static_cast<std::int32_t>(static_cast<std::uint32_t>(x) << 16)); }

inline std::uint16_t narrowed(float x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(detail::bits_of(x));
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40;
  return static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

// n elements as float: in place, or in `buffer`.
inline const float* read(const Input& from, int64_t begin, int64_t n, float* buffer) {
  if (from.type == Type::kFloat) return static_cast<const float*>(from.data) + begin;
  const std::uint16_t* source = static_cast<const std::uint16_t*>(from.data) + begin;
  LBAM_VECTORISE
  for (int64_t j = 0; j < n; ++j) buffer[j] = widened(source[j]);
  return buffer;
}

inline int64_t size_of(Type type) { return type == Type::kFloat ? 4 : 2; }

// Where to write what `write` then stores.
inline float* place(const Output& to, int64_t begin, float* buffer) {
  return to.type == Type::kFloat ? static_cast<float*>(to.data) + begin : buffer;
}

inline void write(const Output& to, int64_t begin, int64_t n, const float* buffer) {
  if (to.type == Type::kFloat) return;
  std::uint16_t* target = static_cast<std::uint16_t*>(to.data) + begin;
  LBAM_VECTORISE
  for (int64_t j = 0; j < n; ++j) target[j] = narrowed(buffer[j]);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
