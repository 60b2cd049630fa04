#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void pack(const Pack& r, ParallelFor parallel) {
  const int64_t width = panel_width(r.columns);
  const bool pairs = r.panels.type == Type::kBfloat16;
  for_ranges(parallel, ceiling(r.columns, width), 1, [&](int64_t first, int64_t last) {
    const Scratch<float> line(width);
    for (int64_t panel = first; panel < last; ++panel)
      for (int64_t k = 0; k < r.depth; ++k) {
        for (int64_t j = 0; j < width; ++j) {
          const int64_t column = panel * width + j;
          line.data[j] = column < r.columns ? r.matrix[k * r.columns + column] : 0;
        }
        if (pairs) {
          std::uint16_t* to = static_cast<std::uint16_t*>(r.panels.data) + (panel * r.depth + k / 2 * 2) * width + k % 2;
          for (int64_t j = 0; j < width; ++j) to[2 * j] = narrowed(line.data[j]);
        } else {
          std::memcpy(static_cast<float*>(r.panels.data) + (panel * r.depth + k) * width, line.data, width * sizeof(float));
        }
      }
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
