#include "windows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// (tanh(x) + 1) / 2 or |tanh(x)|.
inline float formed(float x, bool absolute) {
  const float bell = detail::exponential(-2 * (x < 0 ? -x : x));
  return (absolute ? 1 - bell : x < 0 ? bell : 1.0f) / (1 + bell);
}

}  // namespace

// All colours of a pixel lie in one panel. What is not needed of y is 0.
void reconstruct(const Reconstruct& r, ParallelFor parallel) {
  constexpr int64_t kColours = 3;
  const int64_t width = 2 * r.size.width, area = 2 * r.size.height * width;
  const bool absolute = r.form == Form::kAbs;
  if (r.needed != nullptr) std::memset(r.y.data, 0, r.size.images * area * kColours * size_of(r.y.type));
  const auto finish = [&](const Place& at, int64_t, int64_t, const float* c) {
    float buffer[kColours];
    const int64_t pixel = at.image * area + at.line * width + at.column, first = pixel * kColours;
    if (r.needed != nullptr && r.needed[pixel] == 0) return;
    float* const to = place(r.y, first, buffer);
    for (int64_t j = 0; j < kColours; ++j) to[j] = c[j];
    write(r.y, first, kColours, to);
  };
  const bool halves = r.weight.type == Type::kBfloat16;
  const auto form = [=](float* c, int64_t count) {
    if (halves) {
      for (int64_t j = 0; j + kColours < count; ++j) c[j] += c[j + kColours];
    }
    LBAM_VECTORISE
    for (int64_t j = 0; j < count; ++j) c[j] = formed(c[j], absolute);
  };
  with_types(r.own.type, r.weight.type, [&](auto stored, auto element) {
    using Stored = decltype(stored);
    multiply_windows<decltype(element)>(source<Stored>(r.skip, r.size, r.skip_channels, 2),
                                        source<Stored>(r.own, r.size, r.own_channels, 2), r.size,
                                        halves ? 2 * kColours : kColours, r.weight.data, r.needed, parallel, form, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
