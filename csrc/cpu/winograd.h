// Windows of 2x2 positions by Winograd's F(S x S, 2x2) for tiles of S = 2 or 3 results a side: (S + 1)^2 products for the 4 S^2 of
// all windows, whose transforms are additions. In one dimension, of inputs x and taps g,
//   S = 2: m = [(x0 - x1) g0, x1 (g0 + g1), (x1 - x2) g1],  y = [m0 + m1, m1 - m2];
//   S = 3: m = [(x0 - x2) g0, (x1 + x2) (g0 + g1) / 2, (x2 - x1) (g0 - g1) / 2, (x1 - x3) g1],
//          y = [m0 + m1 + m2, m1 - m2, m1 + m2 - m3].
//
// A 4x4 convolution of stride 2 is a sum of four such windows, one on each of the four pictures of every second line and column;
// a transposed one is four of them, one for each phase of its result.
#pragma once

#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// Which of a line's S + 1 positions a product takes: `one`, plus `sign` times `other` if that is not negative.
struct Taken {
  int64_t one, other;
  float sign;
};

// By the number of results a side: what products take; what they are for each result, 0, 1 or -1; how many tiles are done at a time.
template <int Side>
struct Transform;
template <>
struct Transform<2> {
  static constexpr Taken kTaken[3] = {{0, 1, -1}, {1, -1, 0}, {1, 2, -1}};
  static constexpr float kMade[2][3] = {{1, 1, 0}, {0, 1, -1}};
  static constexpr int64_t kRows = 112;
};
template <>
struct Transform<3> {
  static constexpr Taken kTaken[4] = {{0, 2, -1}, {1, 2, 1}, {2, 1, -1}, {1, 3, -1}};
  static constexpr float kMade[3][4] = {{1, 1, 1, 0}, {0, 1, -1, 0}, {0, 1, 1, -1}};
  static constexpr int64_t kRows = 56;
};

// One of the pictures that windows are read of; tile (0, 0) begins at line `down` and column `right`.
template <typename Stored>
struct Plane {
  const Stored* data;
  int64_t channels, down, right;
};

// Tiles of windows of one to four planes with panels, a part for each product: [tiles, columns] for each result. Planes are
// [images, height, width, channels], read at every `step`th line and column; tiles are `side` * step apart, `lines` x `tiles` an
// image, of which `chosen` lists `count`, or null for all. With `phases` there are four products: results are every second line and
// column of a picture twice the size, each phase of it sees windows that begin so many lines and columns later, by its own panels.
// What tiles have beyond the `bottom` lines and `right` columns of the result, of a phase's, is left out.
template <typename Stored>
struct Tiles {
  int64_t lines, tiles;
  const std::int32_t* chosen;
  int64_t count, height, width, step, columns, bottom, right;
  Plane<Stored> planes[4];
  int planes_count;
  const void* panels;
  bool phases;
};

inline float wide(float x) { return x; }
inline float wide(std::uint16_t x) { return widened(x); }
inline void put(float x, float* to) { *to = x; }
inline void put(float x, std::uint16_t* to) { *to = narrowed(x); }

// The inputs of all products, `step` elements apart, from those of a tile's (S + 1)^2 positions: element k of each.
template <int Side, typename Stored, typename As, typename Put>
inline void transform(const Stored* const (&x)[Side + 1][Side + 1], int64_t k, As as, Put put) {
  using Number = decltype(as(x[0][0]));
  const auto taken = [](const Taken& t, auto value) {
    const Number one = value(t.one);
    return t.other < 0 ? one : one + t.sign * value(t.other);
  };
  Number lines[Side + 1][Side + 1];
  LBAM_UNROLL
  for (int j = 0; j <= Side; ++j) {
    LBAM_UNROLL
    for (int i = 0; i <= Side; ++i)
      lines[i][j] = taken(Transform<Side>::kTaken[i], [&](int64_t line) { return as(x[line][j] + k); });
  }
  LBAM_UNROLL
  for (int i = 0; i <= Side; ++i) {
    LBAM_UNROLL
    for (int j = 0; j <= Side; ++j)
      put((Side + 1) * i + j, taken(Transform<Side>::kTaken[j], [&](int64_t column) { return lines[i][column]; }));
  }
}

// Channels [begin, end) of the inputs of all products of one tile of a plane, which begins at (line, column).
template <int Side, typename Stored, typename Element>
inline void copy_tile(const Tiles<Stored>& t, const Plane<Stored>& plane, int64_t image, int64_t line, int64_t column,
                      int64_t begin, int64_t end, Element* to, int64_t step) {
  static const Stored zeros[2 * kDepth] = {};
  const Stored* x[Side + 1][Side + 1];
  for (int64_t i = 0; i <= Side; ++i)
    for (int64_t j = 0; j <= Side; ++j) {
      const int64_t down = line + i * t.step, right = column + j * t.step;
      const bool inside = down >= 0 && down < t.height && right >= 0 && right < t.width;
      x[i][j] = inside ? plane.data + ((image * t.height + down) * t.width + right) * plane.channels + begin : zeros;
    }
  int64_t k = 0;
  for (; k + kLanes <= end - begin; k += kLanes)
    transform<Side>(
        x, k, [](const Stored* from) { return load(from); }, [&](int product, Vector v) { store(to + product * step + k, v); });
  for (; k < end - begin; ++k)
    transform<Side>(
        x, k, [](const Stored* from) { return wide(*from); }, [&](int product, float v) { put(v, to + product * step + k); });
}

// The results of a tile, `between` elements apart, from those of all products, `step` apart: n elements of each.
template <int Side>
inline void make_results(const float* m, int64_t step, int64_t n, float* y, int64_t between) {
  constexpr auto& kMade = Transform<Side>::kMade;
  const auto made = [](const float (&factors)[Side + 1], auto value) {
    Vector sum = repeated(0);
    LBAM_UNROLL
    for (int i = 0; i <= Side; ++i)
      if (factors[i] != 0) sum = sum + factors[i] * value(i);
    return sum;
  };
  for (int64_t k = 0; k < n; k += kLanes) {
    Vector lines[Side][Side + 1];
    LBAM_UNROLL
    for (int j = 0; j <= Side; ++j) {
      LBAM_UNROLL
      for (int i = 0; i < Side; ++i)
        lines[i][j] = made(kMade[i], [&](int line) { return load(m + ((Side + 1) * line + j) * step + k); });
    }
    LBAM_UNROLL
    for (int i = 0; i < Side; ++i) {
      LBAM_UNROLL
      for (int j = 0; j < Side; ++j)
        store(y + (Side * i + j) * between + k, made(kMade[j], [&](int column) { return lines[i][column]; }));
    }
  }
}

// finish(place, first_column, columns, y) takes the results at every position of the tiles.
template <int Side, typename Element, typename Stored, typename Finish>
void multiply_tiles(const Tiles<Stored>& t, ParallelFor parallel, Finish finish) {
  using Word = typename Words<Element>::Type;
  constexpr int64_t kProducts = (Side + 1) * (Side + 1), kResults = Side * Side, kElements = Words<Element>::kElements;
  int64_t depth = 0;
  for (int s = 0; s < t.planes_count; ++s) depth += t.planes[s].channels;
  struct Space {
    const Scratch<float> words, products, results;
    const Scratch<Place> places;
  };
  const auto prepare = [](int64_t rows, int64_t columns) {
    return Space{Scratch<float>(kProducts * rows * kStride), Scratch<float>(kProducts * rows * columns),
                 Scratch<float>(kResults * columns), Scratch<Place>(rows)};
  };
  const int64_t area = t.lines * t.tiles;
  for_blocks(
      t.phases ? 4 : 1, t.count, t.columns, Transform<Side>::kRows, parallel, prepare,
      [&](const Space& space, const Block& block) {
        const int64_t between = depth / kElements * block.width, size = block.rows * block.stride(), step = block.rows * kStride;
        const int64_t part = depth / kElements * packed_columns(t.columns), lower = block.product / 2, later = block.product % 2;
        const Word* const panels =
            static_cast<const Word*>(t.panels) + block.product * kProducts * part + block.first_panel * between;
        Word* const words = reinterpret_cast<Word*>(space.words.data);
        for (int64_t r = 0; r < block.rows; ++r) {
          const int64_t row = t.chosen == nullptr ? block.first_row + r : t.chosen[block.first_row + r];
          space.places.data[r] = {row / area, row % area / t.tiles, row % t.tiles};
        }
        for (int64_t begin = 0; begin < depth; begin += kDepth * kElements) {
          const int64_t end = least(depth, begin + kDepth * kElements);
          for (int64_t r = 0; r < block.rows; ++r) {
            const Place& at = space.places.data[r];
            const int64_t line = Side * t.step * at.line + lower, column = Side * t.step * at.column + later;
            Element* const to = reinterpret_cast<Element*>(words + r * kStride);
            int64_t before = 0;
            for (int s = 0; s < t.planes_count; ++s) {
              const Plane<Stored>& plane = t.planes[s];
              const int64_t first = most(begin - before, 0), last = least(end - before, plane.channels);
              if (first < last)
                copy_tile<Side>(t, plane, at.image, line + plane.down, column + plane.right, first, last,
                                to + before + first - begin, step * kElements);
              before += plane.channels;
            }
          }
          for (int64_t product = 0; product < kProducts; ++product)
            multiply_block(block, words + product * step, panels + product * part + begin / kElements * block.width, between,
                           (end - begin) / kElements, begin == 0, space.products.data + product * size);
        }
        const int64_t column = block.first_panel * block.width, columns = least(t.columns - column, block.stride());
        for (int64_t r = 0; r < block.rows; ++r) {
          make_results<Side>(space.products.data + r * block.stride(), size, block.stride(), space.results.data, block.stride());
          const Place& tile = space.places.data[r];
          for (int64_t i = 0; i < kResults; ++i) {
            const int64_t y = Side * tile.line + i / Side, x = Side * tile.column + i % Side;
            if (y >= t.bottom || x >= t.right) continue;
            const Place at = t.phases ? Place{tile.image, 2 * y + lower, 2 * x + later} : Place{tile.image, y, x};
            finish(at, column, columns, space.results.data + i * block.stride());
          }
        }
      });
}

// The tiles of a 4x4 convolution of stride 2, all of them.
template <typename Stored>
Tiles<Stored> tiles_of(int64_t side, const Input& x, const Sizes& size, int64_t channels, int64_t outputs, const void* panels) {
  const int64_t bottom = size.height / 2, right = size.width / 2, lines = ceiling(bottom, side), tiles = ceiling(right, side);
  Tiles<Stored> t{lines, tiles,  nullptr, size.images * lines * tiles, size.height, size.width, 2, outputs, bottom, right, {},
                  4,     panels, false};
  for (int plane = 0; plane < 4; ++plane)
    t.planes[plane] = {static_cast<const Stored*>(x.data), channels, plane / 2 - 1, plane % 2 - 1};
  return t;
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
