// The gradient of Winograd's products in winograd.h: each is a product of matrices over all tiles, of which the taps are sums. In one
// dimension, of the gradients dy of two results,
//   dg0 = (x0 - x1) dy0 + x1 (dy0 + dy1),  dg1 = x1 (dy0 + dy1) - (x1 - x2) dy1.
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kProducts = 9, kTilesTogether = 64, kMostChannels = 128, kMostSums = 256;  // for the second cache

// [tiles, channels] of both operands; steps by which neither falls into few sets of the cache.
struct ByTiles {
  static constexpr int64_t kRow = 1, kWord = kMostChannels + kLanes, kPanel = kMostSums + kLanes;
};

constexpr int64_t kLarge = kTilesTogether * ByTiles::kPanel;  // elements of what one product takes of `large`

// Rows are channels of `small`, columns the channels of the four planes of `large`.
struct Share {
  int64_t first_row, rows, first_column, columns;
  int64_t stride() const { return packed_columns(columns); }
};

struct Space {
  const Scratch<float> small, large, sums;  // the last [products, rows, stride]
  const Scratch<Place> places;              // of tiles
};

// to[k] = value(k, as) for n elements, of vectors or single: as(x + k) reads either.
template <typename Element, typename Value>
inline void put_all(int64_t n, Element* to, Value value) {
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) store(to + k, value(k, [](const auto* x) { return load(x); }));
  for (; k < n; ++k) put(value(k, [](const auto* x) { return wide(*x); }), to + k);
}

// What product (down, right) takes of a tile of `small`.
inline void copy_sums(const FilterGradient& r, const Place& tile, int64_t down, int64_t right, const Share& share, float* to) {
  const int64_t width = r.size.width / 2, line = width * r.small_channels;
  const int64_t first = ((tile.image * (r.size.height / 2) + 2 * tile.line) * width + 2 * tile.column) * r.small_channels;
  const float* const a = r.small + first + share.first_row + (down == 2 ? line : 0) + (right == 2 ? r.small_channels : 0);
  const int64_t below = line, beside = r.small_channels;
  if (down != 1 && right != 1) return copy(a, share.rows, to);
  if (down != 1 || right != 1) {
    const float* const b = a + (down == 1 ? below : beside);
    return put_all(share.rows, to, [&](int64_t k, auto as) { return as(a + k) + as(b + k); });
  }
  put_all(share.rows, to, [&](int64_t k, auto as) {
    return (as(a + k) + as(a + beside + k)) + (as(a + below + k) + as(a + below + beside + k));
  });
}

// body(plane, channel, count, column) for each plane's part of the columns.
template <typename Body>
inline void for_planes(const FilterGradient& r, const Share& share, Body body) {
  for (int64_t column = 0; column < share.columns;) {
    const int64_t plane = (share.first_column + column) / r.large_channels;
    const int64_t channel = share.first_column + column - plane * r.large_channels;
    const int64_t count = least(r.large_channels - channel, share.columns - column);
    body(plane, channel, count, column);
    column += count;
  }
}

// Adds to the sums of all products those over some tiles, or with `first` sets them to these.
void add_tiles(const FilterGradient& r, const Tiles<float>& t, const Share& share, const Space& space, int64_t count,
               bool first) {
  const int64_t width = panel_width(share.columns), stride = share.stride(), parts = ceiling(share.rows, kMostRows);
  for (int64_t i = 0; i < count; ++i)
    for_planes(r, share, [&](int64_t plane, int64_t channel, int64_t channels, int64_t column) {
      const Plane<float>& own = t.planes[plane];
      const Place& at = space.places.data[i];
      copy_tile<2>(t, own, at.image, 4 * at.line + own.down, 4 * at.column + own.right, channel, channel + channels,
                   space.large.data + i * ByTiles::kPanel + column, kLarge);
    });
  for (int64_t product = 0; product < kProducts; ++product) {
    const int64_t down = product / 3, right = product % 3;
    for (int64_t i = 0; i < count; ++i)
      copy_sums(r, space.places.data[i], down, right, share, space.small.data + i * ByTiles::kWord);
    for (int64_t panel = 0; panel < stride; panel += width)
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t from = part * share.rows / parts, height = (part + 1) * share.rows / parts - from;
        const auto run = width == kLanes ? multiplication<1, float, ByTiles>(height) : multiplication<2, float, ByTiles>(height);
        run(space.small.data + from, space.large.data + product * kLarge + panel, count, first,
            space.sums.data + (product * share.rows + from) * stride + panel, stride);
      }
  }
}

// The taps from the sums of all products.
void write_taps(const FilterGradient& r, const Share& share, const float* sums) {
  const int64_t stride = share.stride(), size = share.rows * stride;
  for (int64_t row = 0; row < share.rows; ++row)
    for_planes(r, share, [&](int64_t plane, int64_t channel, int64_t count, int64_t column) {
      const float* const u = sums + row * stride + column;
      float* const own = r.gradient + (share.first_row + row) * r.small_step + channel * r.large_step;
      for (int64_t down = 0; down < 2; ++down)
        for (int64_t right = 0; right < 2; ++right) {
          const float *const a = u + (3 * down + right) * size, *const b = a + size, *const c = a + 3 * size, *const d = c + size;
          const bool under = down == 1, beside = right == 1;
          float* const to = own + (2 * down + plane / 2) * r.line_step + (2 * right + plane % 2) * r.column_step;
          const auto tap = [&](int64_t k, auto as) {
            const auto above = beside ? as(a + k) - as(b + k) : as(a + k) + as(b + k);
            const auto below = beside ? as(c + k) - as(d + k) : as(c + k) + as(d + k);
            return under ? above - below : above + below;
          };
          if (r.large_step == 1) {
            put_all(count, to, tap);
          } else {
            for (int64_t k = 0; k < count; ++k) to[k * r.large_step] = tap(k, [](const float* x) { return *x; });
          }
        }
    });
}

}  // namespace

void filter_gradient(const FilterGradient& r, ParallelFor parallel) {
  const Tiles<float> t = tiles_of<float>(2, {r.large}, r.size, r.large_channels, r.small_channels, nullptr);
  const int64_t columns = 4 * r.large_channels, row_blocks = ceiling(r.small_channels, kMostChannels);
  const int64_t least_blocks = most(ceiling(columns, kMostSums), ceiling(parallel.threads, row_blocks));
  const int64_t width = panel_width(columns), most_columns = ceiling(ceiling(columns, least_blocks), width) * width;
  const int64_t column_blocks = ceiling(columns, most_columns), most_rows = ceiling(r.small_channels, row_blocks);
  const auto prepare = [&] {
    return Space{Scratch<float>(kTilesTogether * ByTiles::kWord), Scratch<float>(kProducts * kLarge),
                 Scratch<float>(kProducts * most_rows * most_columns), Scratch<Place>(kTilesTogether)};
  };
  for_tasks(parallel, row_blocks * column_blocks, prepare, [&](const Space& space, int64_t task) {
    const int64_t first_row = task / column_blocks * most_rows, first_column = task % column_blocks * most_columns;
    const Share share = {first_row, least(r.small_channels - first_row, most_rows), first_column,
                         least(columns - first_column, most_columns)};
    for (int64_t begin = 0; begin < t.count; begin += kTilesTogether) {
      const int64_t count = least(t.count - begin, kTilesTogether), area = t.lines * t.tiles;
      for (int64_t i = 0; i < count; ++i)
        space.places.data[i] = {(begin + i) / area, (begin + i) % area / t.tiles, (begin + i) % t.tiles};
      add_tiles(r, t, share, space, count, begin == 0);
    }
    write_taps(r, share, space.sums.data);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
