#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void correct(const Correct& r, ParallelFor parallel) {
  const Pieces pieces(r.count, 1);
  for_ranges(parallel, pieces.count, ceiling(kTask, pieces.width), [&](int64_t first, int64_t last) {
    float buffers[3 * kPiece];
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* const base = read(r.base, begin, n, buffers);
      const float* const y = read(r.y, begin, n, buffers + kPiece);
      float* const to = place(r.result, begin, buffers + 2 * kPiece);
      LBAM_VECTORISE
      for (int64_t j = 0; j < n; ++j) {
        const float value = base[j] + (2 * y[j] - 1);
        to[j] = value < 0 ? 0 : value > 1 ? 1 : value;
      }
      write(r.result, begin, n, to);
    }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
