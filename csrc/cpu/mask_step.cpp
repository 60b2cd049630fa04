#include "epilogue.h"
#include "maps.h"
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// A row of m: whatever is wanted of it, from element `begin` of the results. The buffer holds `count` elements.
void store_row(const MaskStep& r, const float* m, int64_t count, int64_t begin, float* buffer) {
  if (r.map.data != nullptr) {
    float* map = place(r.map, begin, buffer);
    attention_maps(m, count, r.gaussian, map);
    write(r.map, begin, count, map);
  }
  if (r.update.data != nullptr) {
    float* update = place(r.update, begin, buffer);
    mask_updates(m, count, r.alpha, update);
    write(r.update, begin, count, update);
  }
}

void repeat_row(const Output& to, int64_t from, int64_t position, int64_t count) {
  if (to.data == nullptr || from == position) return;
  const int64_t bytes = count * size_of(to.type);
  char* const data = static_cast<char*>(to.data);
  std::memcpy(data + position * bytes, data + from * bytes, bytes);
}

// Writes what needs no product, and returns how many positions that are, the first in `order`.
int64_t write_known(const MaskStep& r, int64_t all, ParallelFor parallel) {
  int64_t known = 0, end = all;
  while (known < end) {
    const int64_t middle = (known + end) / 2;
    if (r.kinds[middle] < 2) {
      known = middle + 1;
    } else {
      end = middle;
    }
  }
  const Scratch<float> buffer(2 * r.outputs);
  float* const zero = buffer.data + r.outputs;
  for (int64_t j = 0; j < r.outputs; ++j) zero[j] = 0;
  for (int64_t first = 0, last; first < known; first = last) {  // the first position of a kind, and its copies
    const int kind = r.kinds[first];
    for (last = first; last < known && r.kinds[last] == kind;) ++last;
    const int64_t from = r.order[first];
    store_row(r, kind == 0 ? zero : r.constant, r.outputs, from * r.outputs, buffer.data);
    for_ranges(parallel, last - first, ceiling(kTask, r.outputs), [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i)
        for (const Output& to : {r.map, r.update}) repeat_row(to, from, r.order[i], r.outputs);
    });
  }
  return known;
}

// Those of all tiles of 2x2 positions in which one of `positions` lies, ascending; returns how many.
template <typename Stored>
int64_t tiles_with(const Tiles<Stored>& all, const std::int32_t* positions, int64_t count, std::int32_t* chosen) {
  const Scratch<std::uint8_t> there(all.count);
  const int64_t area = all.bottom * all.right;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t image = positions[i] / area, line = positions[i] % area / all.right, column = positions[i] % all.right;
    there.data[(image * all.lines + line / 2) * all.tiles + column / 2] = 1;
  }
  int64_t found = 0;
  for (int64_t tile = 0; tile < all.count; ++tile)
    if (there.data[tile]) chosen[found++] = static_cast<std::int32_t>(tile);
  return found;
}

}  // namespace

void mask_step(const MaskStep& r, ParallelFor parallel) {
  const int64_t lines = r.size.height / 2, columns = r.size.width / 2, area = lines * columns, all = r.size.images * area;
  const int64_t known = r.order == nullptr ? 0 : write_known(r, all, parallel);
  with_types(r.u.type, r.weight.type, [&](auto stored, auto element) {
    using Stored = decltype(stored);
    using Element = decltype(element);
    if (r.tile > 0) {
      Tiles<Stored> tiles = tiles_of<Stored>(2, r.u, r.size, r.channels, r.outputs, r.weight.data);
      const Scratch<std::int32_t> chosen(r.order == nullptr ? 1 : tiles.count);
      if (r.order != nullptr) {
        tiles.chosen = chosen.data;
        tiles.count = tiles_with(tiles, r.order + known, all - known, chosen.data);
      }
      return multiply_tiles<2, Element>(tiles, parallel, [&](const Place& at, int64_t column, int64_t count, const float* c) {
        float buffer[kMostColumns];
        const int64_t position = at.image * area + at.line * columns + at.column;
        for (int64_t begin = 0; begin < count; begin += kMostColumns)
          store_row(r, c + begin, least(count - begin, kMostColumns), position * r.outputs + column + begin, buffer);
      });
    }
    const auto position = [&](int64_t row) { return r.order == nullptr ? row : int64_t{r.order[known + row]}; };
    const auto finish = [&](const Results& results) {
      const Scratch<float> buffer(results.columns);
      for (int64_t i = 0; i < results.rows; ++i)
        store_row(r, results.c + i * results.stride, results.columns,
                  position(results.first_row + i) * r.outputs + results.first_column, buffer.data);
    };
    const auto place = [&](int64_t row) {
      const int64_t p = position(row);
      return Place{p / area, 2 * (p % area / columns) - 1, 2 * (p % columns) - 1};
    };
    multiply<Element>(Product<Stored>{all - known, r.outputs, {source<Stored>(r.u, r.size, r.channels, 4), {}}, 1, r.weight.data},
                      parallel, place, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
