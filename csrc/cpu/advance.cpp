#include "maps.h"
#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// A row of m: whatever is wanted of it, from element `begin` of the results. The buffer holds `count` elements.
void stored_row(const Advance& r, const float* m, int64_t count, int64_t begin, float* buffer) {
  if (r.map.data != nullptr) {
    float* map = place(r.map, begin, buffer);
    attention_maps(m, count, r.gaussian, map);
    written(r.map, begin, count, map);
  }
  if (r.update.data != nullptr) {
    float* update = place(r.update, begin, buffer);
    mask_updates(m, count, r.alpha, update);
    written(r.update, begin, count, update);
  }
}

int64_t size_of(Type type) { return type == Type::kFloat ? 4 : 2; }

void repeat_row(const Output& to, int64_t from, int64_t position, int64_t count) {
  if (to.data == nullptr || from == position) return;
  const int64_t bytes = count * size_of(to.type);
  char* const data = static_cast<char*>(to.data);
  std::memcpy(data + position * bytes, data + from * bytes, bytes);
}

}  // namespace

void advance(const Advance& r, ParallelFor parallel) {
  const int64_t lines = r.size.height / 2, columns = r.size.width / 2, area = lines * columns, all = r.size.images * area;
  int64_t known = 0;  // so many positions, the first in `order`, need no product
  if (r.order != nullptr) {
    int64_t end = all;
    while (known < end) {
      const int64_t middle = (known + end) / 2;
      if (r.kinds[middle] < 2) {
        known = middle + 1;
      } else {
        end = middle;
      }
    }
    const Scratch<float> zero(2 * r.outputs);
    int64_t first = 0;
    for (int kind = 0; kind < 2; ++kind) {  // the first position of a kind, and then its copies
      int64_t last = first;
      while (last < known && r.kinds[last] == kind) ++last;
      if (first == last) continue;
      const int64_t from = r.order[first];
      for (int64_t j = 0; j < r.outputs; ++j) zero.data[j] = 0;
      stored_row(r, kind == 0 ? zero.data : r.constant, r.outputs, from * r.outputs, zero.data + r.outputs);
      for_ranges(parallel, last - first, ceiling(kTask, r.outputs), [&](int64_t begin, int64_t end) {
        for (int64_t i = first + begin; i < first + end; ++i)
          for (const Output& to : {r.map, r.update}) repeat_row(to, from, r.order[i], r.outputs);
      });
      first = last;
    }
  }
  const auto position = [&](int64_t row) { return r.order == nullptr ? row : int64_t{r.order[known + row]}; };
  const auto finish = [&](int64_t row, int64_t rows, int64_t column, int64_t count, const float* c, int64_t stride) {
    const Scratch<float> buffer(count);
    for (int64_t i = 0; i < rows; ++i) stored_row(r, c + i * stride, count, position(row + i) * r.outputs + column, buffer.data);
  };
  const auto place = [&](int64_t row) {
    const int64_t p = position(row);
    return Place{p / area, 2 * (p % area / columns) - 1, 2 * (p % columns) - 1};
  };
  with_types(r.u.type, r.weight.type, [&](auto stored, auto element) {
    const auto u = source<decltype(stored)>(r.u, r.size, r.channels, 4);
    multiply<decltype(element)>(Product<decltype(stored)>{all - known, r.outputs, {u, {}}, 1, r.weight.data}, parallel, place, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
