#include "epilogue.h"
#include "windows.h"
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// All phases of the result, each every second line and column, in tiles, each of which is a square of it.
template <typename Stored>
Tiles<Stored> tiles_of(const DecodeWithMap& r, const Squares& squares) {
  const Plane<Stored> skip = {static_cast<const Stored*>(r.skip.data), r.skip_channels, -1, -1};
  const Plane<Stored> own = {static_cast<const Stored*>(r.own.data), r.own_channels, -1, -1};
  const bool alone = r.skip.data == nullptr;
  Tiles<Stored> t{};
  t.lines = squares.lines, t.tiles = squares.columns, t.chosen = squares.chosen, t.count = squares.count;
  t.height = r.size.height, t.width = r.size.width, t.step = 1, t.columns = r.outputs;
  t.bottom = r.size.height, t.right = r.size.width;
  t.planes[0] = alone ? own : skip, t.planes[1] = own, t.planes_count = alone ? 1 : 2;
  t.panels = r.weight.data, t.phases = true;
  return t;
}

}  // namespace

void decode_with_map(const DecodeWithMap& r, ParallelFor parallel) {
  const int64_t width = 2 * r.size.width, area = 2 * r.size.height * width;
  const auto finish = [&](const Place& at, int64_t column, int64_t count, const float* c) {
    float buffers[2 * kMostColumns];
    const int64_t inside = at.line * width + at.column, position = at.image * area + inside;
    for (int64_t begin = 0; begin < count; begin += kMostColumns)
      activated(c + begin, least(count - begin, kMostColumns), r.map,
                (r.maps == 1 ? inside : position) * r.outputs + column + begin, r.scale, r.shift, column + begin, r.slope, r.y,
                position * r.outputs + column + begin, buffers);
  };
  with_types(r.own.type, r.weight.type, [&](auto stored, auto element) {
    using Stored = decltype(stored);
    using Element = decltype(element);
    if (r.tile == 0) {
      return multiply_windows<Element>(
          source<Stored>(r.skip, r.size, r.skip_channels, 2), source<Stored>(r.own, r.size, r.own_channels, 2), r.size, r.outputs,
          r.weight.data, r.needed, parallel, [](float*, int64_t) {}, finish);
    }
    const Squares squares(r.needed, {r.size.images, 2 * r.size.height, width}, 4, 0);
    multiply_tiles<2, Element>(tiles_of<Stored>(r, squares), parallel, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
