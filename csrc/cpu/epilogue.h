// What follows a product of features: the map, a folded BatchNorm and LeakyReLU.
#pragma once

#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kMostColumns = 256;  // for buffers that are small enough for the stack

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
  written(to, begin, count, y);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
