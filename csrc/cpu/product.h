// Convolutions as matrix products: rows are positions of the result, columns its channels, the inner axis the taps of a window.
//
// Rows are copied, a piece of the inner axis at a time, into a buffer of the nearest cache, which is where padding gets its zeros
// and where any set of positions is as good as another. Weights lie in panels as wide as two registers, or one where that holds
// all columns, [panel, taps, width]; in bfloat16 by pairs of taps, [panel, taps / 2, width, 2]. The order of summation depends on
// no thread.
#pragma once

#include "rows.h"
#include "vectors.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kDepth = 256;               // words of the inner axis at a time
constexpr int64_t kStride = kDepth + kLanes;  // of a copied row, so that rows fall into different sets of the cache
constexpr int64_t kBlock = 256;               // rows at a time, so that their copies fill a part of the second cache
constexpr int64_t kTogether = 16;             // columns that a task has at least: `reconstruct` needs its twelve in one
constexpr int64_t kTasks = 2;                 // for each thread, where there is that much to do

inline int64_t panel_width(int64_t columns) { return columns <= kLanes ? kLanes : 2 * kLanes; }
inline int64_t packed_columns(int64_t columns) { return ceiling(columns, panel_width(columns)) * panel_width(columns); }

// Where a window lies: its first line and column, which may be outside.
struct Place {
  int64_t image, line, column;
};

// Pictures [images, height, width, channels] of which windows of `taps` x `taps` positions are read.
template <typename Stored>
struct Source {
  const Stored* data;
  int64_t height, width, channels, taps;

  int64_t depth() const { return taps * taps * channels; }
};

// Pieces are too short for a call of memcpy.
template <typename T>
inline void copy(const T* from, int64_t count, T* to) {
  constexpr int64_t kWhole = kLanes * sizeof(float) / sizeof(T), kPart = 8 / sizeof(T);
  int64_t j = 0;
  for (; j + kWhole <= count; j += kWhole) std::memcpy(to + j, from + j, kWhole * sizeof(T));
  for (; j + kPart <= count; j += kPart) std::memcpy(to + j, from + j, kPart * sizeof(T));
  for (; j < count; ++j) to[j] = from[j];
}
inline void copy(const std::uint16_t* from, int64_t count, float* to) {
  LBAM_VECTORISE
  for (int64_t j = 0; j < count; ++j) to[j] = widened(from[j]);
}

// Elements [begin, end) of a window's taps, line by line, with zeros outside the picture.
template <typename Stored, typename Element>
inline void copy_window(const Source<Stored>& source, const Place& at, int64_t begin, int64_t end, Element* to) {
  const int64_t length = source.taps * source.channels;
  if (begin == 0 && end == source.depth() && at.line >= 0 && at.line + source.taps <= source.height && at.column >= 0 &&
      at.column + source.taps <= source.width) {  // as nearly all are
    const int64_t start = ((at.image * source.height + at.line) * source.width + at.column) * source.channels;
    for (int64_t tap = 0; tap < source.taps; ++tap)
      copy(source.data + start + tap * source.width * source.channels, length, to + tap * length);
    return;
  }
  const int64_t low = most(0, -at.column) * source.channels;
  const int64_t high = most(0, least(source.taps, source.width - at.column)) * source.channels;
  for (int64_t tap = begin / length; tap * length < end; ++tap) {
    const int64_t first = most(begin - tap * length, 0), last = least(end - tap * length, length);
    Element* const own = to + tap * length - begin;
    const int64_t line = at.line + tap;
    const bool inside = line >= 0 && line < source.height;
    const int64_t from = inside ? least(most(first, low), last) : last, until = inside ? most(least(last, high), from) : last;
    for (int64_t j = first; j < from; ++j) own[j] = 0;
    if (from < until) {
      const int64_t start = ((at.image * source.height + line) * source.width + at.column) * source.channels;
      copy(source.data + start + from, until - from, own + from);
    }
    for (int64_t j = until; j < last; ++j) own[j] = 0;
  }
}

// Where the operands of a product of V registers lie, in words: steps between rows, words of a row, and those of a panel.
template <int V>
struct Packed {
  static constexpr int64_t kRow = kStride, kWord = 1, kPanel = V * kLanes;
};

// c [R, V registers] of rows `stride` apart, plus or, with `first`, equal to the product of R copied rows with a panel.
template <int R, int V, typename Word, typename Steps>
void multiplied(const Word* rows, const Word* panel, int64_t depth, bool first, float* c, int64_t stride) {
  Vector sums[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sums[r][v] = repeated(0);
  for (int64_t k = 0; k < depth; ++k) {
    LBAM_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vector word = spread_out(rows[r * Steps::kRow + k * Steps::kWord]);
      for (int v = 0; v < V; ++v) sums[r][v] = product_added(word, panel + k * Steps::kPanel + v * kLanes, sums[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      float* const own = c + r * stride + v * kLanes;
      store(own, first ? sums[r][v] : load(own) + sums[r][v]);  // added last: sums of sums lose less
    }
}

template <typename Word>
using Multiplication = void (*)(const Word*, const Word*, int64_t, bool, float*, int64_t);

// `multiplied` for 1 to R rows.
template <int V, typename Word, typename Steps = Packed<V>, int R = kMostRows>
inline Multiplication<Word> multiplication(int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return multiplication<V, Word, Steps, R - 1>(rows);
  }
  return multiplied<R, V, Word, Steps>;
}

// The words of an element type: floats, or pairs of bfloat16.
template <typename Element>
struct Words;
template <>
struct Words<float> {
  using Type = float;
  static constexpr int64_t kElements = 1;
};
#if defined(__AVX512BF16__)
template <>
struct Words<std::uint16_t> {
  using Type = std::uint32_t;
  static constexpr int64_t kElements = 2;
};
#endif

// Buffers of one thread: where a block's rows lie, their copies, and results of `rows` x `columns`.
template <typename Element>
struct Workspace {
  using Word = typename Words<Element>::Type;
  Workspace(int64_t rows, int64_t columns) : words(rows * kStride), results(rows * columns), places(rows) {}
  Word* copies() const { return reinterpret_cast<Word*>(words.data); }

  const Scratch<float> words, results;
  const Scratch<Place> places;
};

// A block of one of several products of a shape: some of its rows by some of its panels.
struct Block {
  int64_t product, first_row, rows, first_panel, panels, width;  // of a panel
  int64_t stride() const { return panels * width; }
};

// The product of a block's copied rows with its panels, which lie `between` words apart: `results` plus it, or with `first` it alone.
template <typename Word>
inline void multiply_block(const Block& block, const Word* rows, const Word* panels, int64_t between, int64_t length, bool first,
                           float* results) {
  const int64_t parts = ceiling(block.rows, kMostRows), stride = block.stride();
  for (int64_t panel = 0; panel < block.panels; ++panel)
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t from = part * block.rows / parts, height = (part + 1) * block.rows / parts - from;
      const auto run = block.width == kLanes ? multiplication<1, Word>(height) : multiplication<2, Word>(height);
      run(rows + from * kStride, panels + panel * between, length, first, results + from * stride + panel * block.width, stride);
    }
}

// Adds to the results of a block, or with `first` sets them to, the product of rows of `depth` elements, of which
// copy(place, begin, end, to) gives a piece, with panels; `between` words lie between the beginnings of two panels.
template <typename Element, typename Copy>
inline void accumulate(const Workspace<Element>& space, const Block& block, int64_t depth,
                       const typename Words<Element>::Type* panels, int64_t between, bool first, Copy copy) {
  using Word = typename Words<Element>::Type;
  constexpr int64_t kElements = Words<Element>::kElements;
  for (int64_t begin = 0; begin < depth; begin += kDepth * kElements) {
    const int64_t end = least(depth, begin + kDepth * kElements), length = (end - begin) / kElements;
    for (int64_t r = 0; r < block.rows; ++r)
      copy(space.places.data[r], begin, end, reinterpret_cast<Element*>(space.copies() + r * kStride));
    multiply_block(block, space.copies(), panels + begin / kElements * block.width, between, length, first && begin == 0,
                   space.results.data);
  }
}

// body(block) for blocks that cover `products` of `count` rows and `columns`, each of at most `most_rows`, those of the same rows
// one after the other; prepare(rows, columns) makes what a thread needs for that many and is handed to its blocks.
template <typename Prepare, typename Body>
inline void for_blocks(int64_t products, int64_t count, int64_t columns, int64_t most_rows, ParallelFor parallel, Prepare prepare,
                       Body body) {
  const int64_t width = panel_width(columns), panels = ceiling(columns, width);
  const int64_t together = count > most_rows ? parallel.threads : 1,
                blocks = ceiling(ceiling(count, most_rows), together) * together;
  if (count == 0) return;
  const int64_t split = ceiling(panels, ceiling(kTasks * parallel.threads, blocks * products));
  const int64_t share = least(panels, most(split, ceiling(kTogether, width))), groups = ceiling(panels, share);
  const int64_t each = groups * products;
  const auto prepared = [&] { return prepare(ceiling(count, blocks), share * width); };
  for_tasks(parallel, blocks * each, prepared, [&](const auto& space, int64_t task) {
    const int64_t block = task / each, first_row = block * count / blocks, first_panel = task % groups * share;
    body(space, Block{task % each / groups, first_row, (block + 1) * count / blocks - first_row, first_panel,
                      least(panels - first_panel, share), width});
  });
}

// One matrix product: `count` windows of one or two sources with `panels`, [count, columns].
template <typename Stored>
struct Product {
  int64_t count, columns;
  Source<Stored> sources[2];
  int sources_count;
  const void* panels;
};

// Results of some rows, [rows, columns], where their windows lie, and which of all they are.
struct Results {
  int64_t first_row, rows, first_column, columns, stride;
  float* c;
  const Place* places;
};

// place(row) says where a row's windows lie; finish(results) takes them.
template <typename Element, typename Stored, typename PlaceOf, typename Finish>
void multiply(const Product<Stored>& p, ParallelFor parallel, PlaceOf place, Finish finish) {
  using Word = typename Words<Element>::Type;
  constexpr int64_t kElements = Words<Element>::kElements;
  int64_t depth = 0;
  for (int s = 0; s < p.sources_count; ++s) depth += p.sources[s].depth() / kElements;
  const auto prepare = [](int64_t rows, int64_t columns) { return Workspace<Element>(rows, columns); };
  for_blocks(1, p.count, p.columns, kBlock, parallel, prepare, [&](const Workspace<Element>& space, const Block& block) {
    const int64_t between = depth * block.width;
    const Word* panels = static_cast<const Word*>(p.panels) + block.first_panel * between;
    for (int64_t r = 0; r < block.rows; ++r) space.places.data[r] = place(block.first_row + r);
    for (int s = 0; s < p.sources_count; ++s) {
      const Source<Stored>& source = p.sources[s];
      accumulate(space, block, source.depth(), panels, between, s == 0,
                 [&](const Place& at, int64_t begin, int64_t end, Element* to) { copy_window(source, at, begin, end, to); });
      panels += source.depth() / kElements * block.width;
    }
    const int64_t column = block.first_panel * block.width;
    finish(Results{block.first_row, block.rows, column, least(p.columns - column, block.stride()), block.stride(),
                   space.results.data, space.places.data});
  });
}

template <typename Stored>
Source<Stored> source(const Input& x, const Sizes& size, int64_t channels, int64_t taps) {
  return {static_cast<const Stored*>(x.data), size.height, size.width, channels, taps};
}

// body(stored, element) with a value of each type: of pictures, and of the products' elements.
template <typename Body>
void with_types(Type stored, Type element, Body body) {
#if defined(__AVX512BF16__)
  if (element == Type::kBfloat16) return body(std::uint16_t{}, std::uint16_t{});
#else
  static_cast<void>(element);  // the caller asks for no other
#endif
  if (stored == Type::kFloat) return body(float{}, float{});
  return body(std::uint16_t{}, float{});
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
