#include "maps.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void maps(const Maps& r, ParallelFor parallel) {
  const Pieces pieces(r.count, 1);
  for_ranges(parallel, pieces.count, ceiling(kTask, pieces.width), [&](int64_t first, int64_t last) {
    float buffer[2][kPiece];
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* m = read(r.m, begin, n, buffer[0]);
      if (r.map.data != nullptr) {
        float* map = place(r.map, begin, buffer[1]);
        attention_maps(m, n, r.gaussian, map);
        write(r.map, begin, n, map);
      }
      if (r.update.data != nullptr) {
        float* update = place(r.update, begin, buffer[1]);
        mask_updates(m, n, r.alpha, update);
        write(r.update, begin, n, update);
      }
    }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
