#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void classify(const Classify& r, ParallelFor parallel) {
  for_ranges(parallel, r.positions, ceiling(kTask, r.channels), [&](int64_t first, int64_t last) {
    float buffer[kPiece];
    for (int64_t position = first; position < last; position += kPiece) {
      const int64_t count = least(kPiece, last - position);
      for (int64_t c = 0; c < r.channels; ++c) {
        // Element c of every position; of one channel all of them together.
        for (int64_t i = 0; i < count && r.channels > 1; ++i)
          buffer[i] = *read(r.mask, (position + i) * r.channels + c, 1, buffer + i);
        const float* const mask = r.channels > 1 ? buffer : read(r.mask, position, count, buffer);
        LBAM_VECTORISE
        for (int64_t i = 0; i < count; ++i) {
          const std::uint8_t kind = mask[i] == 0 ? 0 : mask[i] == 1 ? 1 : 2;
          r.kinds[position + i] = c == 0 || r.kinds[position + i] == kind ? kind : 2;
        }
      }
    }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
