#include "epilogue.h"
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void encode_with_map(const EncodeWithMap& r, ParallelFor parallel) {
  const int64_t lines = r.size.height / 2, columns = r.size.width / 2, area = lines * columns;
  const auto finish_row = [&](int64_t position, int64_t column, int64_t count, const float* c, float* buffers) {
    const int64_t on_map = r.maps == 1 ? position % area : position;
    activated(c, count, r.map, on_map * r.outputs + column, r.scale, r.shift, column, r.slope, r.y, position * r.outputs + column,
              buffers);
  };
  with_types(r.x.type, r.weight.type, [&](auto stored, auto element) {
    using Stored = decltype(stored);
    using Element = decltype(element);
    const auto finish_tile = [&](const Place& at, int64_t column, int64_t count, const float* c) {
      float buffers[2 * kMostColumns];
      for (int64_t begin = 0; begin < count; begin += kMostColumns)
        finish_row(at.image * area + at.line * columns + at.column, column + begin, least(count - begin, kMostColumns), c + begin,
                   buffers);
    };
    if (r.tile > 0) {
      const auto tiles = tiles_of<Stored>(r.tile, r.x, r.size, r.channels, r.outputs, r.weight.data);
      return r.tile == 3 ? multiply_tiles<3, Element>(tiles, parallel, finish_tile)
                         : multiply_tiles<2, Element>(tiles, parallel, finish_tile);
    }
    const auto finish = [&](const Results& results) {
      const Scratch<float> buffers(2 * results.columns);
      for (int64_t i = 0; i < results.rows; ++i)
        finish_row(results.first_row + i, results.first_column, results.columns, results.c + i * results.stride, buffers.data);
    };
    const auto place = [&](int64_t row) { return Place{row / area, 2 * (row % area / columns) - 1, 2 * (row % columns) - 1}; };
    multiply<Element>(
        Product<Stored>{r.size.images * area, r.outputs, {source<Stored>(r.x, r.size, r.channels, 4), {}}, 1, r.weight.data},
        parallel, place, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
