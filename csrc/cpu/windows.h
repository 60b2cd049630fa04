// Transposed convolutions by windows: 2x2 inputs, of which some may lie just outside, are all that the four pixels around their
// middle see.
#pragma once

#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// finish(place, first_column, columns, c) takes results of every pixel, of one or, where skip has data, two sources.
template <typename Element, typename Stored, typename Finish>
void multiply_windows(const Source<Stored>& skip, const Source<Stored>& own, const Sizes& size, int64_t outputs,
                      const void* panels, ParallelFor parallel, Finish finish) {
  const int64_t columns = size.width + 1, area = (size.height + 1) * columns;
  const bool alone = skip.data == nullptr;
  const auto place = [&](int64_t row) { return Place{row / area, row % area / columns - 1, row % columns - 1}; };
  const auto finish_rows = [&](int64_t row, int64_t rows, int64_t column, int64_t count, const float* c, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i, c += stride) {
      const Place window = place(row + i);
      for (int64_t begin = column, end; begin < column + count; begin = end) {
        const int64_t pixel = begin / outputs;
        end = least(column + count, (pixel + 1) * outputs);
        const int64_t line = 2 * window.line + 1 + pixel / 2, at = 2 * window.column + 1 + pixel % 2;
        if (line < 0 || line >= 2 * size.height || at < 0 || at >= 2 * size.width) continue;
        finish(Place{window.image, line, at}, begin - pixel * outputs, end - begin, c + begin - column);
      }
    }
  };
  multiply<Element>(Product<Stored>{size.images * area, 4 * outputs, {alone ? own : skip, own}, alone ? 1 : 2, panels}, parallel,
                    place, finish_rows);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
