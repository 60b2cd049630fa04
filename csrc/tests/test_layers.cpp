// The layers of the instruction set that LBAM_CPU names against convolutions in double that follow their definition.
//   test_layers [n [name]]: about every n-th case, and only what has that name
// The environment variable LBAM_FAULT plants a fault, which the tests must find: filter, kind, needed, read, unwritten, outside
// or thread.
#include <algorithm>
#include <initializer_list>
#include <random>

#include "arrays.h"

using namespace lbam;
using namespace lbam::cpu;
using namespace lbam::tests;

namespace {

using std::int64_t;

bool planted(const char* name) {
  static const char* const fault = std::getenv("LBAM_FAULT");
  return fault != nullptr && std::strcmp(fault, name) == 0;
}

struct Case {
  Sizes size;
  int64_t channels, outputs;
  Type stored;
  unsigned seed;
};

// What is drawn for a case.
struct Draw {
  explicit Draw(const Case& of) : random(of.seed), around(of.seed % 2 == 0 ? 0 : 41) {}

  float value() { return normal(random); }
  bool coin() { return random() % 2 == 0; }
  Type type() { return coin() ? Type::kFloat : Type::kBfloat16; }
  int64_t one_of(std::initializer_list<int64_t> values) { return values.begin()[random() % values.size()]; }

  Array array(int64_t count, Type type) { return Array(count, type, around); }

  Array filled(int64_t count, Type type, float mean = 0, float deviation = 1) {
    Array result = array(count, type);
    for (int64_t i = 0; i < count; ++i) result.set(i, mean + deviation * value());
    return result;
  }

  std::mt19937 random;
  std::normal_distribution<float> normal;
  int64_t around;
};

// [line, column, channel, output] of 4x4 taps, for sums of about 1. `narrow` ones are bfloat16, whose products with bfloat16 are
// exact in float.
struct Filter {
  Filter(Draw& draw, int64_t of, int64_t to, bool narrow) : channels(of), outputs(to), values(16 * of * to) {
    const float size = 1.5f / std::sqrt(16.0f * of);
    Array drawn = draw.filled(values.size(), narrow ? Type::kBfloat16 : Type::kFloat, 0, size);
    for (int64_t i = 0; i < drawn.count(); ++i) values[i] = drawn[i];
  }

  const float* at(int64_t line, int64_t column, int64_t c) const {
    return &values[((line * 4 + column) * channels + c) * outputs];
  }

  int64_t channels, outputs;
  std::vector<float> values;
};

// Sums of products for each position and column.
struct Sums {
  Sums(int64_t positions, int64_t of) : columns(of), values(positions * of), squares(positions * of) {}

  void add(int64_t position, double x, const float* w) {
    double* const sum = &values[position * columns];
    double* const square = &squares[position * columns];
    for (int64_t o = 0; o < columns; ++o) {
      const double product = x * w[o];
      sum[o] += product, square[o] += product * product;
    }
  }

  // Of every column the size that errors are measured by, the root of the largest sum of squares: Winograd's intermediate results
  // are as large as those of any position nearby.
  std::vector<double> sizes() const {
    std::vector<double> result(columns);
    for (size_t i = 0; i < squares.size(); ++i) result[i % columns] = std::max(result[i % columns], squares[i]);
    for (double& x : result) x = std::sqrt(x);
    return result;
  }

  bool nothing(int64_t i) const { return squares[i] == 0; }

  int64_t columns;
  std::vector<double> values, squares;
};

// 4x4, stride 2, padding 1: result (y, x) sees tap (i, j) at (2 y - 1 + i, 2 x - 1 + j).
Sums convolved(const Array& x, const Sizes& size, const Filter& filter) {
  const int64_t lines = size.height / 2, columns = size.width / 2;
  Sums sums(size.images * lines * columns, filter.outputs);
  for (int64_t position = 0; position < size.images * lines * columns; ++position)
    for (int64_t tap = 0; tap < 16; ++tap) {
      const int64_t image = position / (lines * columns);
      const int64_t line = 2 * (position / columns % lines) - 1 + tap / 4, column = 2 * (position % columns) - 1 + tap % 4;
      if (line < 0 || line >= size.height || column < 0 || column >= size.width) continue;
      for (int64_t c = 0; c < filter.channels; ++c)
        sums.add(position, x[((image * size.height + line) * size.width + column) * filter.channels + c],
                 filter.at(tap / 4, tap % 4, c));
    }
  return sums;
}

// The same transposed: input (y, x) adds tap (i, j) to (2 y - 1 + i, 2 x - 1 + j).
void add_transposed(const Array& x, const Sizes& size, const Filter& filter, Sums& sums) {
  const int64_t lines = 2 * size.height, columns = 2 * size.width;
  for (int64_t position = 0; position < size.images * size.height * size.width; ++position)
    for (int64_t tap = 0; tap < 16; ++tap) {
      const int64_t image = position / (size.height * size.width);
      const int64_t line = 2 * (position / size.width % size.height) - 1 + tap / 4;
      const int64_t column = 2 * (position % size.width) - 1 + tap % 4;
      if (line < 0 || line >= lines || column < 0 || column >= columns) continue;
      for (int64_t c = 0; c < filter.channels; ++c)
        sums.add((image * lines + line) * columns + column, x[position * filter.channels + c], filter.at(tap / 4, tap % 4, c));
    }
}

// [parts, depth, columns]
struct Matrices {
  Matrices(int64_t count, int64_t of, int64_t to) : parts(count), depth(of), columns(to), values(count * of * to) {}
  float* row(int64_t part, int64_t k) { return &values[(part * depth + k) * columns]; }

  int64_t parts, depth, columns;
  std::vector<float> values;
};

// In panels as product.h has them.
Array packed(Draw& draw, Matrices of, bool narrow) {
  if (planted("filter")) of.values[of.values.size() / 2] += 0.5f;
  const int64_t lanes = packed_columns(1), width = of.columns <= lanes ? lanes : 2 * lanes, all = packed_columns(of.columns);
  Array panels = draw.array(of.parts * of.depth * all, narrow ? Type::kBfloat16 : Type::kFloat);
  for (int64_t part = 0; part < of.parts; ++part)
    for (int64_t k = 0; k < of.depth; ++k)
      for (int64_t column = 0; column < all; ++column) {
        const int64_t panel = (part * (all / width) + column / width) * of.depth * width, inside = column % width;
        const int64_t at = narrow ? k / 2 * 2 * width + 2 * inside + k % 2 : k * width + inside;
        panels.set(panel + at, column < of.columns ? of.row(part, k)[column] : 0);
      }
  panels.check_ends();
  return panels;
}

// Element o of one of Winograd's filters for tiles of `side` results: in each direction the tap 0, the sum, or for 3 halves of sum and
// difference, or the tap 1. tap(i, j) gives their rows of outputs.
template <typename Tap>
float transformed(int64_t side, int64_t product, int64_t o, Tap tap) {
  const auto one_way = [&](int64_t which, auto of) {
    if (which == 0 || which == side) return of(which == 0 ? 0 : 1);
    return side == 2 ? of(0) + of(1) : (of(0) + (which == 1 ? of(1) : -of(1))) / 2;
  };
  return one_way(product / (side + 1),
                 [&](int64_t i) { return one_way(product % (side + 1), [&](int64_t j) { return tap(i, j)[o]; }); });
}

int64_t products_of(int64_t side) { return (side + 1) * (side + 1); }

// For tiles of `side` results; 0 without Winograd.
Matrices encoder(const Filter& f, int64_t side) {
  Matrices result(side > 0 ? products_of(side) : 1, (side > 0 ? 4 : 16) * f.channels, f.outputs);
  for (int64_t part = 0; part < result.parts; ++part)
    for (int64_t k = 0; k < result.depth; ++k)
      for (int64_t o = 0; o < f.outputs; ++o) {
        const int64_t tap = k / f.channels, c = k % f.channels;  // or the plane
        const auto of_plane = [&](int64_t i, int64_t j) { return f.at(2 * i + tap / 2, 2 * j + tap % 2, c); };
        result.row(part, k)[o] = side > 0 ? transformed(side, part, o, of_plane) : f.at(tap / 4, tap % 4, c)[o];
      }
  return result;
}

// The four pixels around the middle of 2x2 inputs.
Matrices windows(const std::vector<Filter>& filters) {
  int64_t channels = 0;
  for (const Filter& f : filters) channels += f.channels;
  const int64_t outputs = filters[0].outputs;
  Matrices result(1, 4 * channels, 4 * outputs);
  int64_t first = 0;
  for (const Filter& f : filters) {
    for (int64_t k = 0; k < 4 * f.channels; ++k)
      for (int64_t column = 0; column < 4 * outputs; ++column) {
        const int64_t tap = k / f.channels, pixel = column / outputs;
        const float* const own = f.at(2 + pixel / 2 - 2 * (tap / 2), 2 + pixel % 2 - 2 * (tap % 2), k % f.channels);
        result.row(0, first + k)[column] = own[column % outputs];
      }
    first += 4 * f.channels;
  }
  return result;
}

Matrices decoder(const std::vector<Filter>& filters, int64_t side) {
  if (side == 0) return windows(filters);
  const int64_t products = products_of(side);
  int64_t channels = 0;
  for (const Filter& f : filters) channels += f.channels;
  Matrices result(4 * products, channels, filters[0].outputs);
  for (int64_t part = 0; part < result.parts; ++part) {
    const int64_t phase = part / products, down = phase / 2, right = phase % 2;
    int64_t first = 0;
    for (const Filter& f : filters) {
      for (int64_t c = 0; c < f.channels; ++c)
        for (int64_t o = 0; o < f.outputs; ++o)
          result.row(part, first + c)[o] = transformed(
              side, part % products, o, [&](int64_t i, int64_t j) { return f.at(3 - down - 2 * i, 3 - right - 2 * j, c); });
      first += f.channels;
    }
  }
  return result;
}

// run(outputs, parallel) twice, in this thread and in three: leaves the results in `outputs`.
template <typename Run>
void run(std::vector<Array>& outputs, Run run) {
  std::vector<Array> others = outputs;
  run(outputs, ParallelFor{});
  run(others, ParallelFor{three_threads, 3});
  if (planted("thread")) others.back().set(others.back().count() / 2, 0.3f);
  holds("threads change no bit", outputs == others);
  if (planted("unwritten")) outputs[0].set(outputs[0].count() / 2, std::nanf(""));
  if (planted("outside")) outputs[0].set(-1, 0);
  for (const Array& x : outputs) x.check_ends();
}

// A source; of a fault's making it begins an element early, outside.
Input source(Array& x) { return {x.data(planted("read") ? -1 : 0), x.type()}; }

// Products of bfloat16 are exact, and float for everything else loses little of sums of at most ten thousand terms. Winograd's
// bfloat16 rounds both factors of a product once more, each by at most 2^-8 of it and by the root of the squares 0.4 of that; the
// products are together twice as large as the taps', in tiles of either size; errors of thousands of results reach five standard deviations. That makes
// 2^-8 * 0.4 * 1.4 * 2 * 5, less than six roundings.
double lost(bool rough) { return rough ? 6.0 / 256 : 2e-5; }

// A rounding to the type that a result is stored in.
double rounding(const Array& y, double expected) { return (y.type() == Type::kFloat ? 1e-6 : 1.0 / 256) * std::fabs(expected); }

struct Affine {
  Affine(Draw& draw, int64_t count)
      : scale(draw.filled(count, Type::kFloat, 1, 0.4f)),
        shift(draw.filled(count, Type::kFloat)),
        given(draw.coin()),
        slope(draw.coin() ? 0.2f : 1) {}

  const float* scales() { return given ? scale.floats() : nullptr; }
  const float* shifts() { return given ? shift.floats() : nullptr; }

  Array scale, shift;
  bool given;
  float slope;
};

void check_features(const char* what, const Array& y, const Sums& sums, const Array& map, const Affine& affine, bool rough) {
  const std::vector<double> sizes = sums.sizes();
  for (int64_t i = 0; i < y.count(); ++i) {
    const int64_t o = i % sums.columns;
    const double scale = affine.given ? affine.scale[o] : 1, shift = affine.given ? affine.shift[o] : 0;
    const double factor = map[i % map.count()] * scale;
    const double expected = leaky(sums.values[i] * factor + shift, double(affine.slope));
    const double error = lost(rough) * sizes[o] * std::fabs(factor) + 1e-6 * std::fabs(shift);
    near(what, i, y[i], expected, error + rounding(y, expected));
  }
}

// Whether the panels of a matrix of that depth are bfloat16.
bool narrow(Draw& draw, const Case& of, int64_t depth) {
  return of.stored == Type::kBfloat16 && bfloat16_products() && depth % 2 == 0 && draw.random() % 4 != 0;
}

void check_encode_with_map(const Case& of) {
  Draw draw(of);
  const bool pairs = narrow(draw, of, 16);
  const int64_t lines = of.size.height / 2, columns = of.size.width / 2, area = lines * columns;
  const Filter filter(draw, of.channels, of.outputs, pairs);
  Array x = draw.filled(of.size.images * of.size.height * of.size.width * of.channels, of.stored);
  const int64_t maps = draw.one_of({1, of.size.images});
  Array map = draw.filled(maps * area * of.outputs, draw.type());
  Affine affine(draw, of.outputs);
  const Sums sums = convolved(x, of.size, filter);
  for (int64_t side : {0, 2, 3}) {
    Array panels = packed(draw, encoder(filter, side), pairs);
    std::vector<Array> y = {draw.array(of.size.images * area * of.outputs, draw.type())};
    run(y, [&](std::vector<Array>& to, ParallelFor parallel) {
      encode_with_map({of.size, of.channels, of.outputs, source(x), panels.input(), side, map.input(), maps, affine.scales(),
                       affine.shifts(), affine.slope, to[0].output()},
                      parallel);
    });
    check_features(side > 0 ? "encode_with_map by Winograd" : "encode_with_map", y[0], sums, map, affine, side > 0 && pairs);
  }
}

// Where a result is needed, and where its inputs are, by the definition of a transposed convolution.
struct Needed {
  Needed(Draw& draw, const Sizes& inputs)
      : size{inputs.images, 2 * inputs.height, 2 * inputs.width}, result(4 * count_of(inputs), 0), sources(count_of(inputs), 0) {
    const int64_t top = draw.random() % size.height, left = draw.random() % size.width, spots = draw.random() % 3;
    const int64_t bottom = top + 1 + draw.random() % 3, right = left + 1 + draw.random() % 5;
    for (int64_t i = 0; i < int64_t(result.size()); ++i) {
      const int64_t line = i / size.width % size.height, column = i % size.width;
      result[i] = line >= top && line < bottom && column >= left && column < right;
    }
    for (int64_t i = 0; i < spots; ++i) result[draw.random() % result.size()] = 1;
    for (int64_t i = 0; i < int64_t(result.size()); ++i)
      for (int64_t tap = 0; result[i] && tap < 4; ++tap) {
        const int64_t line = (i / size.width % size.height + 1) / 2 - tap / 2, column = (i % size.width + 1) / 2 - tap % 2;
        if (line < 0 || line >= inputs.height || column < 0 || column >= inputs.width) continue;
        sources[(i / (size.width * size.height) * inputs.height + line) * inputs.width + column] = planted("needed") ? 0 : 1;
      }
  }

  static int64_t count_of(const Sizes& of) { return of.images * of.height * of.width; }

  // `x` with NaN in what is not needed of it.
  Array spoilt(const Array& x) const {
    Array result = x;
    for (int64_t i = 0; i < x.count(); ++i)
      if (!sources[i / (x.count() / int64_t(sources.size()))]) result.set(i, std::nanf(""));
    return result;
  }

  // Of a result that was computed in part: the same bits as all of it, where it is needed.
  void check(const char* what, const Array& part, const Array& whole) const {
    const int64_t channels = whole.count() / int64_t(result.size());
    for (int64_t i = 0; i < whole.count(); ++i)
      if (result[i / channels]) near(what, i, part[i], whole[i], 0);
  }

  Sizes size;
  std::vector<std::uint8_t> result, sources;
};

void check_needs(const Case& of) {
  Draw draw(of);
  Needed needed(draw, of.size);
  std::vector<std::uint8_t> inputs(needed.sources.size(), 99);
  needs({needed.size, needed.result.data(), inputs.data()});
  holds("inputs that are needed", inputs == needed.sources);
}

void check_decode_with_map(const Case& of) {
  Draw draw(of);
  const int64_t skip_channels = draw.one_of({0, 0, 1, 3, 4, 5, 16, 24, 40}), depth = skip_channels + of.channels;
  const bool pairs = narrow(draw, of, depth);
  const int64_t inputs = of.size.images * of.size.height * of.size.width, area = 4 * of.size.height * of.size.width;
  Array skip = draw.filled(inputs * skip_channels, of.stored), own = draw.filled(inputs * of.channels, of.stored);
  const int64_t maps = draw.one_of({1, of.size.images});
  Array map = draw.filled(maps * area * of.outputs, draw.type());
  Affine affine(draw, of.outputs);
  std::vector<Filter> filters;
  Sums sums(of.size.images * area, of.outputs);
  if (skip_channels > 0) {
    filters.emplace_back(draw, skip_channels, of.outputs, pairs);
    add_transposed(skip, of.size, filters.back(), sums);
  }
  filters.emplace_back(draw, of.channels, of.outputs, pairs);
  add_transposed(own, of.size, filters.back(), sums);
  for (int64_t side : {0, 2}) {
    Array panels = packed(draw, decoder(filters, side), pairs);
    std::vector<Array> y = {draw.array(of.size.images * area * of.outputs, draw.type())};
    const auto decode = [&](Array& skip, const Input& own, const std::uint8_t* needed, Array& to, ParallelFor parallel) {
      decode_with_map(
          {of.size, skip_channels, of.channels, of.outputs, skip_channels > 0 ? skip.input() : Input{}, own, panels.input(), side,
           map.input(), maps, affine.scales(), affine.shifts(), affine.slope, needed, to.output()},
          parallel);
    };
    run(y, [&](std::vector<Array>& to, ParallelFor parallel) { decode(skip, source(own), nullptr, to[0], parallel); });
    check_features(side > 0 ? "decode_with_map by Winograd" : "decode_with_map", y[0], sums, map, affine, side > 0 && pairs);
    const Needed needed(draw, of.size);
    Array spoilt_skip = needed.spoilt(skip), spoilt_own = needed.spoilt(own);
    std::vector<Array> part = {draw.array(y[0].count(), y[0].type())};
    run(part, [&](std::vector<Array>& to, ParallelFor parallel) {
      decode(spoilt_skip, source(spoilt_own), needed.result.data(), to[0], parallel);
    });
    needed.check(side > 0 ? "a part of decode_with_map by Winograd" : "a part of decode_with_map", part[0], y[0]);
  }
}

void check_reconstruct(const Case& of) {
  Draw draw(of);
  const bool pairs = narrow(draw, of, 16), absolute = draw.coin();
  const int64_t skip_channels = draw.one_of({1, 3, 4, 5, 16, 24, 40});
  const int64_t inputs = of.size.images * of.size.height * of.size.width, pixels = 4 * inputs;
  Array skip = draw.filled(inputs * skip_channels, of.stored), own = draw.filled(inputs * of.channels, of.stored);
  const int64_t columns = pairs ? 6 : 3;
  const std::vector<Filter> filters = {Filter(draw, skip_channels, columns, pairs), Filter(draw, of.channels, columns, pairs)};
  Sums sums(pixels, columns);
  add_transposed(skip, of.size, filters[0], sums), add_transposed(own, of.size, filters[1], sums);
  Array panels = packed(draw, windows(filters), pairs);
  std::vector<Array> y = {draw.array(3 * pixels, draw.type())};
  const auto reconstruct_some = [&](Array& skip, const Input& own, const std::uint8_t* needed, Array& to, ParallelFor parallel) {
    reconstruct({of.size, skip_channels, of.channels, skip.input(), own, panels.input(), absolute ? Form::kAbs : Form::kTanh,
                 needed, to.output()},
                parallel);
  };
  run(y, [&](std::vector<Array>& to, ParallelFor parallel) { reconstruct_some(skip, source(own), nullptr, to[0], parallel); });
  const Needed needed(draw, of.size);
  Array spoilt_skip = needed.spoilt(skip), spoilt_own = needed.spoilt(own);
  std::vector<Array> part = {draw.array(y[0].count(), y[0].type())};
  run(part, [&](std::vector<Array>& to, ParallelFor parallel) {
    reconstruct_some(spoilt_skip, source(spoilt_own), needed.result.data(), to[0], parallel);
  });
  needed.check("a part of reconstruct", part[0], y[0]);
  for (int64_t i = 0; i < part[0].count(); ++i)
    if (!needed.result[i / 3]) near("what is not needed of a picture", i, part[0][i], 0, 0);
  const std::vector<double> sizes = sums.sizes();
  for (int64_t i = 0; i < 3 * pixels; ++i) {
    const int64_t from = i / 3 * columns + i % 3;
    const double sum = sums.values[from] + (pairs ? sums.values[from + 3] : 0),
                 size = sizes[i % 3] + (pairs ? sizes[i % 3 + 3] : 0);
    const double x = std::tanh(sum), expected = absolute ? std::fabs(x) : (x + 1) / 2;
    near(absolute ? "abs" : "tanh", i, y[0][i], expected, lost(false) * size + 1e-6 + rounding(y[0], expected));
  }
}

// The kinds of a mask chain's input, or of a result: 0 where it is 0, 1 where it is known, 2 where it is mixed.
using Kinds = std::vector<std::uint8_t>;

// One kind for each image, a rectangle of another, and now and then one position of a third.
Kinds kinds_of_input(Draw& draw, const Sizes& size) {
  Kinds kinds(size.images * size.height * size.width);
  for (int64_t image = 0; image < size.images; ++image) {
    const int64_t base = draw.random() % 3, other = draw.random() % 3, spots = draw.random() % 3;
    const int64_t top = draw.random() % size.height, left = draw.random() % size.width;
    for (int64_t i = 0; i < size.height * size.width; ++i) {
      const bool inside = i / size.width >= top && i % size.width >= left;
      kinds[image * size.height * size.width + i] = inside ? other : base;
    }
    for (int64_t i = 0; i < spots; ++i)
      kinds[image * size.height * size.width + draw.random() % (size.height * size.width)] = draw.random() % 3;
  }
  return kinds;
}

// The kind of every window: that of all its positions, where those outside are 0, or mixed.
Kinds kinds_of_result(const Kinds& kinds, const Sizes& size) {
  const int64_t lines = size.height / 2, columns = size.width / 2;
  Kinds result(size.images * lines * columns);
  for (size_t i = 0; i < result.size(); ++i) {
    int64_t counts[3] = {};
    for (int64_t tap = 0; tap < 16; ++tap) {
      const int64_t image = i / (lines * columns);
      const int64_t line = 2 * (i / columns % lines) - 1 + tap / 4, column = 2 * (i % columns) - 1 + tap % 4;
      const bool inside = line >= 0 && line < size.height && column >= 0 && column < size.width;
      ++counts[inside ? kinds[(image * size.height + line) * size.width + column] : 0];
    }
    result[i] = counts[0] == 16 ? 0 : counts[1] == 16 ? 1 : 2;
  }
  return result;
}

struct Order {
  explicit Order(const Kinds& kinds) : positions(kinds.size()), sorted(kinds) {
    for (size_t i = 0; i < kinds.size(); ++i) positions[i] = std::int32_t(i);
    std::stable_sort(positions.begin(), positions.end(), [&](std::int32_t a, std::int32_t b) { return kinds[a] < kinds[b]; });
    std::sort(sorted.begin(), sorted.end());
  }

  std::vector<std::int32_t> positions;
  Kinds sorted;
};

void check_spread(const Case& of) {
  if (of.size.height % 2 != 0 || of.size.width % 2 != 0) return;
  Draw draw(of);
  Kinds kinds = kinds_of_input(draw, of.size);
  const Kinds expected = kinds_of_result(kinds, of.size);
  const Order order(expected);
  if (planted("kind")) kinds[kinds.size() / 2] = (kinds[kinds.size() / 2] + 1) % 3;
  Kinds next(expected.size(), 99), sorted(expected.size(), 99);
  std::vector<std::int32_t> positions(expected.size(), -1);
  spread({of.size, kinds.data(), next.data(), positions.data(), sorted.data()});
  holds("kinds of the result", next == expected);
  holds("positions by kind", positions == order.positions);
  holds("sorted kinds", sorted == order.sorted);
}

void check_mask_step(const Case& of) {
  Draw draw(of);
  const bool pairs = narrow(draw, of, 16), by_kind = draw.random() % 3 != 0;
  const int64_t lines = of.size.height / 2, columns = of.size.width / 2, area = lines * columns;
  const Filter filter(draw, of.channels, of.outputs, pairs);
  Array u = draw.filled(of.size.images * of.size.height * of.size.width * of.channels, of.stored, 0.3f);
  const Array known = draw.filled(of.channels, of.stored, 0.7f, 0.3f);
  const Kinds kinds = kinds_of_input(draw, of.size);
  for (int64_t i = 0; i < u.count() && by_kind; ++i)
    if (kinds[i / of.channels] < 2) u.set(i, kinds[i / of.channels] == 0 ? 0 : known[i % of.channels]);
  Order order(kinds_of_result(kinds, of.size));
  if (planted("kind")) {  // one to be computed is not
    const auto mixed = std::find(order.sorted.begin(), order.sorted.end(), 2);
    if (mixed != order.sorted.end()) *mixed = mixed == order.sorted.begin() ? 0 : mixed[-1];
  }
  Sums constants(1, of.outputs);
  for (int64_t tap = 0; tap < 16; ++tap)
    for (int64_t c = 0; c < of.channels; ++c) constants.add(0, known[c], filter.at(tap / 4, tap % 4, c));
  Array constant = draw.array(of.outputs, Type::kFloat);
  for (int64_t o = 0; o < of.outputs; ++o) constant.set(o, float(constants.values[o]));
  const Sums sums = convolved(u, of.size, filter);
  const std::vector<double> sizes = sums.sizes();
  const Gaussian<float> g = {1.3f, 0.875f, 1.1f, 0.7f};
  const Gaussian<double> wide = {g.a, g.mu, g.gamma_l, g.gamma_r};
  const float alpha = 0.73f;
  const double power = alpha;
  const int64_t wanted = draw.one_of({0, 0, 1, 2});  // both, or one of them
  for (int64_t side : {0, 2}) {
    Array panels = packed(draw, encoder(filter, side), pairs);
    const int64_t count = of.size.images * area * of.outputs;
    std::vector<Array> outputs;
    for (int64_t i = 1; i < 3; ++i)
      if (wanted != 3 - i) outputs.push_back(draw.array(count, draw.type()));
    run(outputs, [&](std::vector<Array>& to, ParallelFor parallel) {
      mask_step({of.size, of.channels, of.outputs, source(u), panels.input(), side, g, alpha,
                 by_kind ? order.positions.data() : nullptr, by_kind ? order.sorted.data() : nullptr,
                 by_kind ? constant.floats() : nullptr, wanted == 2 ? Output{} : to[0].output(),
                 wanted == 1 ? Output{} : to.back().output()},
                parallel);
    });
    for (int64_t i = 0; i < count; ++i) {
      const double m = sums.values[i], error = sums.nothing(i) ? 0 : lost(side > 0 && pairs) * sizes[i % of.outputs];
      if (wanted != 2) {  // g_A is nowhere steeper than 1.2
        const double expected = attention_map(m, wide);
        near(side > 0 ? "g_A by Winograd" : "g_A", i, outputs[0][i], expected,
             1.2 * error + 1e-6 + rounding(outputs[0], expected));
      }
      if (wanted != 1) {  // g_M is steep at 0
        const Array& update = outputs.back();
        const double expected = mask_update(m, power), low = mask_update(m - error, power), high = mask_update(m + error, power);
        near(side > 0 ? "g_M by Winograd" : "g_M", i, update[i], expected,
             std::max(high - expected, expected - low) + rounding(update, expected));
      }
    }
  }
}

// The taps of a filter where `order` of the axes channel, output, line and column puts them, innermost last.
StridedFilter strided(const Filter& filter, Array& to, const std::vector<int>& order) {
  const int64_t sizes[4] = {filter.channels, filter.outputs, 4, 4};
  int64_t steps[4], step = 1;
  for (int i = 3; i >= 0; --i) steps[order[i]] = step, step *= sizes[order[i]];
  for (int64_t c = 0; c < filter.channels; ++c)
    for (int64_t o = 0; o < filter.outputs; ++o)
      for (int64_t tap = 0; tap < 16; ++tap)
        to.set(c * steps[0] + o * steps[1] + tap / 4 * steps[2] + tap % 4 * steps[3], filter.at(tap / 4, tap % 4, c)[o]);
  return {static_cast<const float*>(source(to).data), filter.channels, steps[0], steps[1], steps[2], steps[3]};
}

void check_pack(const Case& of) {
  Draw draw(of);
  const int64_t lanes = packed_columns(1), width = of.outputs <= lanes ? lanes : 2 * lanes;
  holds("packed columns", packed_columns(of.outputs) == (of.outputs + width - 1) / width * width);
  std::vector<int> order = {0, 1, 2, 3};
  for (bool transposed : {false, true})
    for (int64_t side : {0, 2, 3}) {
      if (transposed && side == 3) continue;
      std::vector<Filter> filters;
      if (transposed && draw.coin()) filters.emplace_back(draw, draw.one_of({1, 4, 5, 16}), of.outputs, false);
      filters.emplace_back(draw, of.channels, of.outputs, false);
      bool even = !(transposed && side > 0);
      if (!even) even = filters[0].channels % 2 == 0 && of.channels % 2 == 0;
      const bool pairs = even && narrow(draw, of, 16);
      const Array expected = packed(draw, transposed ? decoder(filters, side) : encoder(filters[0], side), pairs);
      std::vector<Array> memory, found = {draw.array(expected.count(), expected.type())};
      for (const Filter& f : filters) memory.push_back(draw.array(16 * f.channels * f.outputs, Type::kFloat));
      Pack request{transposed, side, of.outputs, {}, int(filters.size()), {}};
      for (size_t i = 0; i < filters.size(); ++i) {
        std::shuffle(order.begin(), order.end(), draw.random);
        request.filters[i] = strided(filters[i], memory[i], order);
      }
      run(found, [&](std::vector<Array>& to, ParallelFor parallel) {
        request.panels = to[0].output();
        pack(request, parallel);
      });
      for (int64_t i = 0; i < expected.count(); ++i)
        near("pack", i, found[0][i], expected[i], 1e-6 + 2 * rounding(expected, expected[i]));
    }
}

// Float pictures of even lines and columns of the result alone.
void check_filter_gradient(const Case& of) {
  const int64_t lines = of.size.height / 2, columns = of.size.width / 2, positions = of.size.images * lines * columns;
  if (of.stored != Type::kFloat || lines % 2 != 0 || columns % 2 != 0) return;
  Draw draw(of);
  Array small = draw.filled(positions * of.outputs, Type::kFloat);
  Array large = draw.filled(of.size.images * of.size.height * of.size.width * of.channels, Type::kFloat);
  Sums sums(16 * of.channels, of.outputs);
  std::vector<float> row(of.outputs);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t o = 0; o < of.outputs; ++o) row[o] = small[position * of.outputs + o];
    for (int64_t tap = 0; tap < 16; ++tap) {
      const int64_t image = position / (lines * columns);
      const int64_t line = 2 * (position / columns % lines) - 1 + tap / 4, column = 2 * (position % columns) - 1 + tap % 4;
      if (line < 0 || line >= of.size.height || column < 0 || column >= of.size.width) continue;
      for (int64_t c = 0; c < of.channels; ++c)
        sums.add(tap * of.channels + c, large[((image * of.size.height + line) * of.size.width + column) * of.channels + c],
                 row.data());
    }
  }
  if (planted("filter")) sums.values[sums.values.size() / 2] += 0.5;
  const int64_t sizes[4] = {of.outputs, of.channels, 4, 4};
  std::vector<int> order = {0, 1, 2, 3};
  std::shuffle(order.begin(), order.end(), draw.random);
  int64_t steps[4], step = 1;
  for (int i = 3; i >= 0; --i) steps[order[i]] = step, step *= sizes[order[i]];
  std::vector<Array> found = {draw.array(step, Type::kFloat)};
  run(found, [&](std::vector<Array>& to, ParallelFor parallel) {
    filter_gradient({of.size, of.outputs, of.channels, static_cast<const float*>(source(small).data),
                     static_cast<const float*>(source(large).data), static_cast<float*>(to[0].data()), steps[0], steps[1],
                     steps[2], steps[3]},
                    parallel);
  });
  const std::vector<double> sizes_of = sums.sizes();
  for (int64_t i = 0; i < step; ++i) {
    const int64_t o = i % of.outputs, c = i / of.outputs % of.channels, tap = i / of.outputs / of.channels;
    const int64_t at = o * steps[0] + c * steps[1] + tap / 4 * steps[2] + tap % 4 * steps[3];
    near("filter_gradient", at, found[0][at], sums.values[i], lost(false) * sizes_of[o]);
  }
}

// Axes image, channel, line and column in that order, innermost last.
Strided strided(Array& of, const int64_t (&sizes)[4], const std::vector<int>& order) {
  Strided result{source(of), sizes[1], {}};
  int64_t step = 1;
  for (int i = 3; i >= 0; --i) result.steps[order[i]] = step, step *= sizes[order[i]];
  return result;
}

float at(const Array& of, const Strided& x, int64_t image, int64_t channel, int64_t line, int64_t column) {
  return of[image * x.steps[0] + channel * x.steps[1] + line * x.steps[2] + column * x.steps[3]];
}

void check_damaged(const Case& of) {
  Draw draw(of);
  const Sizes& size = of.size;
  const int64_t masks = draw.one_of({1, size.images}), channels = draw.one_of({3, 4});
  const int64_t of_image[4] = {size.images, 3, size.height, size.width};
  const int64_t of_mask[4] = {masks, draw.one_of({1, 3}), size.height, size.width};
  const int64_t pixels = size.height * size.width;
  Array image = draw.filled(3 * size.images * pixels, of.stored), mask = draw.array(masks * of_mask[1] * pixels, draw.type());
  for (int64_t i = 0; i < mask.count(); ++i) mask.set(i, draw.one_of({0, 1, 1, 3}) / 2.0f);
  std::vector<int> order = {0, 1, 2, 3};
  std::shuffle(order.begin(), order.end(), draw.random);
  const Strided from = strided(image, of_image, order);
  std::shuffle(order.begin(), order.end(), draw.random);
  Strided known = strided(mask, of_mask, order);
  if (masks == 1) known.steps[0] = 0;
  const auto masked = [&](int64_t i, int64_t c, int64_t line, int64_t column) {
    return at(mask, known, i, c < of_mask[1] ? c : 0, line, column);
  };
  for (int64_t i = 0; i < size.images; ++i)  // what is not read cannot matter
    for (int64_t line = 0; line < size.height; ++line)
      if (masked(i, 1, line, 0) == 0) image.set(i * from.steps[0] + from.steps[1] + line * from.steps[2], NAN);
  std::vector<Array> y = {draw.array(size.images * pixels * channels, draw.type())};
  run(y, [&](std::vector<Array>& to, ParallelFor parallel) { damage({size, from, known, channels, to[0].output()}, parallel); });
  for (int64_t i = 0; i < y[0].count(); ++i) {
    const int64_t c = i % channels, column = i / channels % size.width, line = i / channels / size.width % size.height;
    const int64_t n = i / channels / pixels;
    const float m = masked(n, c == 3 ? 0 : c, line, column), x = c == 3 ? 1 : at(image, from, n, c, line, column);
    const double expected = m == 0 ? 0 : double(m) * x;
    near("damage", i, y[0][i], expected, 1e-6 * std::fabs(expected) + rounding(y[0], expected));
  }
}

// check(case) of about every n-th case and, unless n is over 100, of those that are deep or wide.
void for_cases(unsigned every, void (*check)(const Case&)) {
  const std::vector<Sizes> sizes = {{1, 2, 2}, {1, 4, 4}, {1, 4, 6}, {1, 5, 9}, {1, 8, 12}, {1, 10, 6}, {1, 20, 36}};
  unsigned seed = 0;
  for (Type type : {Type::kFloat, Type::kBfloat16}) {
    for (Sizes size : sizes)
      for (int64_t channels : {1, 3, 4, 5, 16, 24, 40})
        for (int64_t outputs : {1, 3, 8, 16, 17, 33, 40, 72}) {
          std::mt19937 random(++seed);
          if (random() % every != 0) continue;
          size.images = random() % 2 == 0 ? 1 : 3;
          check({size, channels, outputs, type, seed});
        }
    for (int i = every > 100 ? 2 : 0; i < 2; ++i) {
      check({{1, 4, 4}, 530, 5, type, ++seed});
      check({{1, 4, 4}, 4, 600, type, ++seed});
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  const unsigned every = count > 1 ? unsigned(std::atoi(arguments[1])) : 1;
  std::printf("%s: ", kInstructionSets[instruction_set()]);
  const struct {
    const char* name;
    void (*check)(const Case&);
  } checks[] = {{"pack", check_pack},
                {"filter_gradient", check_filter_gradient},
                {"encode_with_map", check_encode_with_map},
                {"mask_step", check_mask_step},
                {"decode_with_map", check_decode_with_map},
                {"reconstruct", check_reconstruct},
                {"spread", check_spread},
                {"needs", check_needs},
                {"damage", check_damaged}};
  for (const auto& each : checks)
    if (count < 3 || std::strcmp(arguments[2], each.name) == 0) for_cases(every, each.check);
  return report();
}
