#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// (tanh(x) + 1) / 2 or |tanh(x)|.
inline float formed(float x, bool absolute) {
  const float bell = detail::exponential(-2 * (x < 0 ? -x : x));
  return (absolute ? 1 - bell : x < 0 ? bell : 1.0f) / (1 + bell);
}

}  // namespace

// A window of 2x2 inputs, of which the first may lie just outside, is all that the four pixels around its middle see.
void reconstruct(const Reconstruct& r, ParallelFor parallel) {
  constexpr int64_t kColours = 3, kColumns = 4 * kColours;
  const int64_t height = 2 * r.size.height, width = 2 * r.size.width;
  const int64_t columns = r.size.width + 1, area = (r.size.height + 1) * columns;
  const bool absolute = r.form == Form::kAbs;
  const auto finish = [&](int64_t row, int64_t rows, int64_t, int64_t, const float* c, int64_t stride) {
    float values[kColumns], known[kColours], mask[1];
    for (int64_t i = 0; i < rows; ++i, c += stride) {
      const int64_t p = row + i, image = p / area, line = 2 * (p % area / columns) - 1, column = 2 * (p % columns) - 1;
      LBAM_VECTORISE
      for (int64_t j = 0; j < kColumns; ++j) values[j] = formed(c[j], absolute);
      for (int64_t pixel = 0; pixel < 4; ++pixel) {
        const int64_t y = line + pixel / 2, x = column + pixel % 2;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;
        const int64_t inside = y * width + x, position = image * height * width + inside;
        const float* from = values + pixel * kColours;
        if (r.image.data != nullptr && *read(r.mask, r.masks == 1 ? inside : position, 1, mask) == 1)
          from = read(r.image, position * kColours, kColours, known);
        float* to = place(r.y, position * kColours, known);
        for (int64_t j = 0; j < kColours; ++j) to[j] = from[j];
        written(r.y, position * kColours, kColours, to);
      }
    }
  };
  const auto place = [&](int64_t row) { return Place{row / area, row % area / columns - 1, row % columns - 1}; };
  with_types(r.own.type, r.weight.type, [&](auto stored, auto element) {
    const auto skip = source<decltype(stored)>(r.skip, r.size, r.skip_channels, 2);
    const auto own = source<decltype(stored)>(r.own, r.size, r.own_channels, 2);
    multiply<decltype(element)>(Product<decltype(stored)>{r.size.images * area, kColumns, {skip, own}, 2, r.weight.data}, parallel,
                                place, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
