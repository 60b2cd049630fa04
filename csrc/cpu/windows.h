// Transposed convolutions by windows: 2x2 inputs, of which some may lie just outside, are all that the four pixels around their
// middle see.
#pragma once

#include "needed.h"
#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// prepare(c, count) is called with all results of some windows, then finish(place, first_column, columns, c) with those of every
// pixel; of one or, where skip has data, two sources. `needed` as in DecodeWithMap.
template <typename Element, typename Stored, typename Prepare, typename Finish>
void multiply_windows(const Source<Stored>& skip, const Source<Stored>& own, const Sizes& size, int64_t outputs,
                      const void* panels, const std::uint8_t* needed, ParallelFor parallel, Prepare prepare, Finish finish) {
  const Squares windows(needed, {size.images, 2 * size.height, 2 * size.width}, 2, 1);
  const int64_t columns = windows.columns, area = windows.lines * columns;
  const bool alone = skip.data == nullptr;
  const auto place = [&](int64_t row) {
    const int64_t window = windows.chosen == nullptr ? row : windows.chosen[row];
    return Place{window / area, window % area / columns - 1, window % columns - 1};
  };
  const auto finish_all = [&](const Results& r) {
    prepare(r.c, r.rows * r.stride);
    for (int64_t begin = r.first_column, end; begin < r.first_column + r.columns; begin = end) {
      const int64_t pixel = begin / outputs, down = 1 + pixel / 2, right = 1 + pixel % 2;
      end = least(r.first_column + r.columns, (pixel + 1) * outputs);
      for (int64_t i = 0; i < r.rows; ++i) {
        const Place& window = r.places[i];
        const int64_t line = 2 * window.line + down, at = 2 * window.column + right;
        if (line < 0 || line >= 2 * size.height || at < 0 || at >= 2 * size.width) continue;
        finish(Place{window.image, line, at}, begin - pixel * outputs, end - begin, r.c + i * r.stride + begin - r.first_column);
      }
    }
  };
  multiply<Element>(Product<Stored>{windows.count, 4 * outputs, {alone ? own : skip, own}, alone ? 1 : 2, panels}, parallel,
                    place, finish_all);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
