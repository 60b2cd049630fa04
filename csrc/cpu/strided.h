// Lines of pictures in any layout.
#pragma once

#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// A line of one channel, in place or in `buffer`.
inline const float* line_of(const Strided& x, int64_t image, int64_t channel, int64_t line, int64_t count, float* buffer) {
  const int64_t begin = image * x.steps[0] + channel * x.steps[1] + line * x.steps[2], step = x.steps[3];
  if (step == 1) return read(x.picture, begin, count, buffer);
  if (x.picture.type == Type::kFloat) {
    const float* const from = static_cast<const float*>(x.picture.data) + begin;
    LBAM_VECTORISE
    for (int64_t i = 0; i < count; ++i) buffer[i] = from[i * step];
  } else {
    const std::uint16_t* const from = static_cast<const std::uint16_t*>(x.picture.data) + begin;
    LBAM_VECTORISE
    for (int64_t i = 0; i < count; ++i) buffer[i] = widened(from[i * step]);
  }
  return buffer;
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
