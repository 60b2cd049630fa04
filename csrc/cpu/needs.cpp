#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

// Position p of the inputs is read by the lines 2p - 1 to 2p + 2 of the result, and so in a line.
void needs(const Needs& r, ParallelFor) {
  const int64_t width = r.size.width, lines = r.size.height / 2, columns = width / 2;
  const Scratch<std::uint8_t> any(width + 2);  // of four lines, column c at c + 1
  for (int64_t image = 0; image < r.size.images; ++image)
    for (int64_t line = 0; line < lines; ++line) {
      std::uint8_t* const window = any.data;
      std::memset(window, 0, width + 2);
      for (int64_t k = most(0, 2 * line - 1); k < least(r.size.height, 2 * line + 3); ++k) {
        const std::uint8_t* const own = r.needed + (image * r.size.height + k) * width;
        LBAM_VECTORISE
        for (int64_t c = 0; c < width; ++c) window[c + 1] |= own[c];
      }
      std::uint8_t* const to = r.inputs + (image * lines + line) * columns;
      for (int64_t c = 0; c < columns; ++c) to[c] = window[2 * c] | window[2 * c + 1] | window[2 * c + 2] | window[2 * c + 3];
    }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
