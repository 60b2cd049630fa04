// Windows of 2x2 positions by Winograd's F(2x2, 2x2): nine products for the sixteen of four neighbouring results, whose
// transforms are additions alone. In one dimension, of inputs x and taps g,
//   m = [(x0 - x1) g0, x1 (g0 + g1), (x1 - x2) g1],  y = [m0 + m1, m1 - m2].
//
// A 4x4 convolution of stride 2 is a sum of four such windows, one on each of the four pictures of every second line and column;
// a transposed one is four of them, one for each phase of its result.
#pragma once

#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kProducts = 9;
constexpr int64_t kTileRows = 112;  // tiles at a time, of which each has nine products and four results

// One of the pictures that windows are read of; tile (0, 0) begins at line `down` and column `right`.
template <typename Stored>
struct Plane {
  const Stored* data;
  int64_t channels, down, right;
};

// Tiles of 2x2 windows of one to four planes with panels, a part for each product: [tiles, columns] four times. Planes are
// [images, height, width, channels], read at every `step`th line and column; tiles are 2 * step apart, `lines` x `tiles` an
// image, of which `chosen` lists `count`, or null for all. With `phases` there are four products: results are every second line and
// column of a picture twice the size, each phase of it sees windows that begin so many lines and columns later, by its own panels.
template <typename Stored>
struct Tiles {
  int64_t lines, tiles;
  const std::int32_t* chosen;
  int64_t count, height, width, step, columns;
  Plane<Stored> planes[4];
  int planes_count;
  const void* panels;
  bool phases;
};

// Which of a line's three positions the product takes: `plus`, less `minus` if that is not negative.
struct Taken {
  int64_t plus, minus;
};
constexpr Taken kTaken[3] = {{0, 1}, {1, -1}, {1, 2}};

inline float wide(float x) { return x; }
inline float wide(std::uint16_t x) { return widened(x); }
inline void put(float x, float* to) { *to = x; }
inline void put(float x, std::uint16_t* to) { *to = narrowed(x); }

// to[k] = value(k, as) for n elements, of vectors or single: as(x + k) reads either.
template <typename Element, typename Value>
inline void put_all(int64_t n, Element* to, Value value) {
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) store(to + k, value(k, [](const auto* x) { return load(x); }));
  for (; k < n; ++k) put(value(k, [](const auto* x) { return wide(*x); }), to + k);
}

// Channels [begin, end) of one product's input of one tile, which begins at (line, column).
template <typename Stored, typename Element>
inline void copy_tile(const Tiles<Stored>& t, const Plane<Stored>& plane, int64_t image, int64_t line, int64_t column,
                      const Taken& down, const Taken& right, int64_t begin, int64_t end, Element* to) {
  static const Stored zeros[2 * kDepth] = {};
  const auto at = [&](int64_t i, int64_t j) {
    const int64_t y = line + i * t.step, x = column + j * t.step;
    const bool inside = y >= 0 && y < t.height && x >= 0 && x < t.width;
    return inside ? plane.data + ((image * t.height + y) * t.width + x) * plane.channels + begin : zeros;
  };
  const int64_t n = end - begin;
  const Stored* const a = at(down.plus, right.plus);
  if (down.minus < 0 && right.minus < 0) {
    return put_all(n, to, [&](int64_t k, auto as) { return as(a + k); });
  }
  const Stored* const b = right.minus < 0 ? at(down.minus, right.plus) : at(down.plus, right.minus);
  if (down.minus < 0 || right.minus < 0) {
    return put_all(n, to, [&](int64_t k, auto as) { return as(a + k) - as(b + k); });
  }
  const Stored *const c = at(down.minus, right.plus), *const d = at(down.minus, right.minus);
  put_all(n, to, [&](int64_t k, auto as) { return (as(a + k) - as(b + k)) - (as(c + k) - as(d + k)); });
}

// finish(place, first_column, columns, y) takes the results at every position of the tiles.
template <typename Element, typename Stored, typename Finish>
void multiply_tiles(const Tiles<Stored>& t, ParallelFor parallel, Finish finish) {
  using Word = typename Words<Element>::Type;
  constexpr int64_t kElements = Words<Element>::kElements;
  int64_t depth = 0;
  for (int s = 0; s < t.planes_count; ++s) depth += t.planes[s].channels;
  struct Space {
    Workspace<Element> products;
    Scratch<float> results;
  };
  const auto prepare = [](int64_t rows, int64_t columns) {
    return Space{Workspace<Element>(rows, columns), Scratch<float>(4 * rows * columns)};
  };
  const int64_t area = t.lines * t.tiles;
  for_blocks(t.phases ? 4 : 1, t.count, t.columns, kTileRows, parallel, prepare, [&](const Space& space, const Block& block) {
    const int64_t between = depth / kElements * block.width, size = block.rows * block.stride();
    const int64_t part = depth / kElements * packed_columns(t.columns), lower = block.product / 2, later = block.product % 2;
    const Word* panels = static_cast<const Word*>(t.panels) + block.product * kProducts * part + block.first_panel * between;
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t row = t.chosen == nullptr ? block.first_row + r : t.chosen[block.first_row + r];
      space.products.places.data[r] = {row / area, row % area / t.tiles, row % t.tiles};
    }
    for (int64_t product = 0; product < kProducts; ++product) {
      const int64_t down = product / 3, right = product % 3;
      accumulate(space.products, block, depth, panels, between, true,
                 [&](const Place& at, int64_t begin, int64_t end, Element* to) {
                   const int64_t line = 2 * t.step * at.line + lower, column = 2 * t.step * at.column + later;
                   int64_t before = 0;
                   for (int s = 0; s < t.planes_count; ++s) {
                     const Plane<Stored>& plane = t.planes[s];
                     const int64_t first = most(begin - before, 0), last = least(end - before, plane.channels);
                     if (first < last)
                       copy_tile(t, plane, at.image, line + plane.down, column + plane.right, kTaken[down], kTaken[right], first,
                                 last, to + before + first - begin);
                     before += plane.channels;
                   }
                 });
      panels += part;
      const float* const m = space.products.results.data;
      for (int64_t i = most(down - 1, 0); i < least(down + 1, 2); ++i)
        for (int64_t j = most(right - 1, 0); j < least(right + 1, 2); ++j) {
          float* const y = space.results.data + (2 * i + j) * size;
          const float sign = (down == 2) == (right == 2) ? 1 : -1;
          if (down == i && right == j) {
            for (int64_t k = 0; k < size; ++k) y[k] = sign * m[k];
          } else {
            for (int64_t k = 0; k < size; ++k) y[k] += sign * m[k];
          }
        }
    }
    const int64_t column = block.first_panel * block.width, columns = least(t.columns - column, block.stride());
    for (int64_t r = 0; r < block.rows; ++r)
      for (int64_t i = 0; i < 4; ++i) {
        const Place& tile = space.products.places.data[r];
        const int64_t y = 2 * tile.line + i / 2, x = 2 * tile.column + i % 2;
        const Place at = t.phases ? Place{tile.image, 2 * y + lower, 2 * x + later} : Place{tile.image, y, x};
        finish(at, column, columns, space.results.data + i * size + r * block.stride());
      }
  });
}

// The tiles of a 4x4 convolution of stride 2, all of them.
template <typename Stored>
Tiles<Stored> tiles_of(const Input& x, const Sizes& size, int64_t channels, int64_t outputs, const void* panels) {
  const int64_t lines = size.height / 4, tiles = size.width / 4;
  Tiles<Stored> t{lines, tiles, nullptr, size.images * lines * tiles, size.height, size.width, 2, outputs, {}, 4, panels, false};
  for (int plane = 0; plane < 4; ++plane)
    t.planes[plane] = {static_cast<const Stored*>(x.data), channels, plane / 2 - 1, plane % 2 - 1};
  return t;
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
