#include "strided.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
void damage(const Damage& r, ParallelFor parallel) {
  const int64_t width = r.size.width, elements = width * r.channels;
  for_ranges(parallel, r.size.images * r.size.height, ceiling(kTask, elements), [&](int64_t first, int64_t last) {
    const Scratch<float> buffers(2 * width + elements);
    for (int64_t row = first; row < last; ++row) {
      const int64_t image = row / r.size.height, line = row % r.size.height;
      float* const to = place(r.y, row * elements, buffers.data + 2 * width);
      for (int64_t c = 0; c < r.channels; ++c) {
        const float* const known = line_of(r.mask, image, c < r.mask.channels ? c : 0, line, width, buffers.data);
        if (c == 3) {
          LBAM_VECTORISE
          for (int64_t i = 0; i < width; ++i) to[i * r.channels + 3] = known[i];
          continue;
        }
        const float* const from = line_of(r.image, image, c, line, width, buffers.data + width);
        LBAM_VECTORISE
        for (int64_t i = 0; i < width; ++i) to[i * r.channels + c] = (known[i] > 0 ? from[i] : 0) * known[i];
      }
      write(r.y, row * elements, elements, to);
    }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
