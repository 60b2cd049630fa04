// What follows a product of features: the map, a folded BatchNorm and LeakyReLU.
#pragma once

#include "vectors.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kMostColumns = 256;  // for buffers that are small enough for the stack

// `write` by the processor's own rounding, where it has one: that gives 0 for numbers below the ordinary ones.
inline void stored(const Output& to, int64_t begin, int64_t count, const float* y) {
  if constexpr (kBfloat16Products) {
    if (to.type == Type::kFloat) return;
    std::uint16_t* const target = static_cast<std::uint16_t*>(to.data) + begin;
    int64_t j = 0;
    for (; j + kLanes <= count; j += kLanes) store(target + j, load(y + j));
    for (; j < count; ++j) target[j] = narrowed(y[j]);
  } else {
    write(to, begin, count, y);
  }
}

// `count` columns from `column` of one row: y = leaky(scale * c * map + shift); map, if any, and y from their elements. Two
// buffers' room.
inline void activated(const float* c, int64_t count, const Input& map, int64_t map_begin, const float* scale, const float* shift,
                      int64_t column, float slope, const Output& to, int64_t begin, float* buffers) {
  float* y = place(to, begin, buffers + count);
  if (map.data == nullptr) {
    for (int64_t j = 0; j < count; ++j) buffers[j] = 1;
  }
  const float* known = map.data == nullptr ? buffers : read(map, map_begin, count, buffers);
  if (scale == nullptr) {
    LBAM_VECTORISE
    for (int64_t j = 0; j < count; ++j) y[j] = leaky(c[j] * known[j], slope);
  } else {
    scale += column;
    shift += column;
    LBAM_VECTORISE
    for (int64_t j = 0; j < count; ++j) y[j] = leaky(c[j] * known[j] * scale[j] + shift[j], slope);
  }
  stored(to, begin, count, y);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
