#include "maps.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void attend(const Attend& r, ParallelFor parallel) {
  const Pieces pieces(r.positions, r.channels);
  const int64_t width = pieces.width;
  const Scratch<float> columns(2 * width);
  float *scale = columns.data, *shift = scale + width;
  spread(r.scale, 1, r.channels, width, scale);
  spread(r.shift, 0, r.channels, width, shift);
  for_ranges(parallel, pieces.count, ceiling(kTask, width * r.parts), [&](int64_t first, int64_t last) {
    const Scratch<float> buffers(4 * width);
    float *map = buffers.data, *wide_m = map + width, *wide_x = wide_m + width, *wide_y = wide_x + width;
    const float slope = r.slope;
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* m = read(r.m, begin, n, wide_m);
      attention_maps(m, n, r.gaussian, map);
      if (r.u.data != nullptr) {
        float* u = place(r.u, begin, wide_y);
        mask_updates(m, n, r.alpha, u);
        write(r.u, begin, n, u);
      }
      for (int64_t part = 0; part < r.parts; ++part) {
        const int64_t own = part * pieces.elements + begin;
        const float* x = read(r.features, own, n, wide_x);
        float* y = place(r.y, own, wide_y);
        LBAM_VECTORISE
        for (int64_t j = 0; j < n; ++j) y[j] = leaky(x[j] * map[j] * scale[j] + shift[j], slope);
        write(r.y, own, n, y);
      }
    }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
