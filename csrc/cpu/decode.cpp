#include "epilogue.h"
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void decode(const Decode& r, ParallelFor parallel) {
  const int64_t lines = r.size.height, columns = r.size.width, area = lines * columns;
  const int64_t depth = r.skip_channels + r.own_channels, parts = r.winograd ? kProducts : 4;
  for (int phase = 0; phase < 4; ++phase) {
    const int64_t down = phase / 2, right = phase % 2;
    // The result of one position of the input's size, in this phase.
    const auto finish_row = [&](const Place& at, int64_t column, int64_t count, const float* c, float* buffers) {
      const int64_t inside = (2 * at.line + down) * 2 * columns + 2 * at.column + right, position = at.image * 4 * area + inside;
      activated(c, count, r.map, (r.maps == 1 ? inside : position) * r.outputs + column, r.scale, r.shift, column, r.slope, r.y,
                position * r.outputs + column, buffers);
    };
    with_types(r.own.type, r.weight.type, [&](auto stored, auto element) {
      using Stored = decltype(stored);
      using Element = decltype(element);
      const int first = r.skip.data == nullptr;
      const void* weight = static_cast<const Element*>(r.weight.data) + phase * parts * depth * packed_columns(r.outputs);
      if (r.winograd) {
        const Plane<Stored> planes[2] = {{static_cast<const Stored*>(r.skip.data), r.skip_channels, down - 1, right - 1},
                                         {static_cast<const Stored*>(r.own.data), r.own_channels, down - 1, right - 1}};
        return multiply_tiles<Element>(
            Tiles<Stored>{lines / 2, columns / 2, nullptr, r.size.images * area / 4, lines, columns, 1, r.outputs,
                          {planes[first], planes[1]}, 2 - first, weight},
            parallel, [&](const Place& at, int64_t column, int64_t count, const float* c) {
              float buffers[2 * kMostColumns];
              for (int64_t begin = 0; begin < count; begin += kMostColumns)
                finish_row(at, column + begin, least(count - begin, kMostColumns), c + begin, buffers);
            });
      }
      const Source<Stored> sources[2] = {source<Stored>(r.skip, r.size, r.skip_channels, 2),
                                         source<Stored>(r.own, r.size, r.own_channels, 2)};
      const auto finish = [&](int64_t row, int64_t rows, int64_t column, int64_t count, const float* c, int64_t stride) {
        const Scratch<float> buffers(2 * count);
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t p = row + i;
          finish_row({p / area, p % area / columns, p % columns}, column, count, c + i * stride, buffers.data);
        }
      };
      const auto place = [&](int64_t row) {
        return Place{row / area, row % area / columns + down - 1, row % columns + right - 1};
      };
      multiply<Element>(Product<Stored>{r.size.images * area, r.outputs, {sources[first], sources[1]}, 2 - first, weight}, parallel,
                        place, finish);
    });
  }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
