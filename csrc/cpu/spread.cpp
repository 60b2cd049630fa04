#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

// Kinds as sets: 0 has the bit 1, 1 the bit 2, 2 both. What lies outside the picture is 0.
void spread(const Spread& r, ParallelFor) {
  const int64_t width = r.size.width, lines = r.size.height / 2, columns = width / 2, all = r.size.images * lines * columns;
  const Scratch<std::uint8_t> sets(width + 3);
  int64_t counts[3] = {0, 0, 0};
  for (int64_t image = 0; image < r.size.images; ++image)
    for (int64_t line = 0; line < lines; ++line) {
      std::uint8_t* const window = sets.data;  // column c of the picture at c + 1
      for (int64_t c = 0; c < width + 3; ++c) window[c] = c == 0 || c > width || line == 0 || line == lines - 1;
      for (int64_t k = most(0, 2 * line - 1); k < least(r.size.height, 2 * line + 3); ++k) {
        const std::uint8_t* const own = r.kinds + (image * r.size.height + k) * width;
        LBAM_VECTORISE
        for (int64_t c = 0; c < width; ++c) window[c + 1] |= own[c] + 1;
      }
      std::uint8_t* const to = r.next + (image * lines + line) * columns;
      for (int64_t c = 0; c < columns; ++c) {
        to[c] = (window[2 * c] | window[2 * c + 1] | window[2 * c + 2] | window[2 * c + 3]) - 1;
        ++counts[to[c]];
      }
    }
  int64_t next[3] = {0, counts[0], counts[0] + counts[1]};
  for (int64_t position = 0; position < all; ++position) r.order[next[r.next[position]]++] = static_cast<std::int32_t>(position);
  for (int64_t i = 0; i < all; ++i) r.sorted[i] = i < counts[0] ? 0 : i < counts[0] + counts[1] ? 1 : 2;
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
