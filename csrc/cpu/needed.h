// Which parts of a result are computed where not all of it is wanted.
#pragma once

#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// Squares of `side` positions, of which the first in each line and column begin `before` positions outside and the last may end
// outside: those with a needed position in them, ascending, or all, without a list.
struct Squares {
  Squares(const std::uint8_t* needed, const Sizes& size, int64_t side, int64_t before)
      : lines(ceiling(size.height + 2 * before, side)),
        columns(ceiling(size.width + 2 * before, side)),
        count(size.images * lines * columns),
        scratch(needed == nullptr ? 0 : count) {
    if (needed == nullptr) return;
    chosen = scratch.data;
    const Scratch<std::uint8_t> there(count);
    for (int64_t image = 0; image < size.images; ++image)
      for (int64_t line = 0; line < size.height; ++line) {
        std::uint8_t* const to = there.data + (image * lines + (line + before) / side) * columns;
        const std::uint8_t* const from = needed + (image * size.height + line) * size.width;
        for (int64_t column = 0; column < size.width; ++column) to[(column + before) / side] |= from[column];
      }
    int64_t found = 0;
    for (int64_t square = 0; square < count; ++square)
      if (there.data[square]) scratch.data[found++] = static_cast<std::int32_t>(square);
    count = found;
  }

  int64_t lines, columns, count;
  const std::int32_t* chosen = nullptr;

 private:
  const Scratch<std::int32_t> scratch;
};

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
