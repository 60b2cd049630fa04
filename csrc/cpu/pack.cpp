#include "product.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int kTaps = 16, kRowsOfTaps = 64;

// A row of the panels that a filter's 4x4 taps for one channel become: in part `part`, at `group` times the channels, a sum of
// some of the taps, times these factors.
struct Row {
  int part, group, count;
  int taps[4];
  float factors[4];
};

// By the number of results a side: what of a line's two taps goes into each of Winograd's products.
constexpr float kSums[2][4][2] = {{{1, 0}, {1, 1}, {0, 1}}, {{1, 0}, {0.5f, 0.5f}, {0.5f, -0.5f}, {0, 1}}};

struct Rows {
  int count = 0, groups;
  Row rows[kRowsOfTaps];

  // Winograd's sums of the taps of a window of 2x2, for tiles of `side` results.
  void add(const int (&taps)[2][2], int side, int part, int group) {
    for (int product = 0; product < (side + 1) * (side + 1); ++product) {
      const float *const down = kSums[side - 2][product / (side + 1)], *const right = kSums[side - 2][product % (side + 1)];
      Row& row = rows[count++] = {part + product, group, 0, {}, {}};
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) {
          if (down[i] * right[j] == 0) continue;
          row.factors[row.count] = down[i] * right[j];
          row.taps[row.count++] = taps[i][j];
        }
    }
  }
};

Rows rows_of(bool transposed, int side) {
  Rows r;
  r.groups = transposed ? (side > 0 ? 1 : 4) : (side > 0 ? 4 : 16);
  if (side == 0) {
    for (int tap = 0; tap < r.groups; ++tap) r.rows[r.count++] = {0, tap, 1, {tap}, {1}};
    return r;
  }
  for (int down = 0; down < 2; ++down)
    for (int right = 0; right < 2; ++right) {
      int taps[2][2];
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j)
          taps[i][j] = transposed ? 4 * (3 - down - 2 * i) + 3 - right - 2 * j : 4 * (2 * i + down) + 2 * j + right;
      const int which = 2 * down + right;
      r.add(taps, side, transposed ? (side + 1) * (side + 1) * which : 0, transposed ? 0 : which);
    }
  return r;
}

using Taps = float[kTaps][2 * kLanes];

// The taps for one channel and `width` columns from `first`; zeros past the last. Columns are outputs; with `windows` pixels
// [2][2] and outputs, and of each those 2x2 taps that a window's inputs reach it by.
void read_taps(const Pack& r, const StridedFilter& from, bool windows, int64_t channel, int64_t first, int64_t width,
               Taps& taps) {
  const int count = windows ? 4 : kTaps;
  for (int64_t j = 0; j < width;) {
    const int64_t pixel = (first + j) / r.outputs, output = first + j - pixel * r.outputs;
    const bool past = pixel >= (windows ? 4 : 1);
    const int64_t end = past ? width : least(width, j + r.outputs - output);
    int64_t steps[kTaps];
    for (int tap = 0; tap < count; ++tap) {
      const int64_t line = windows ? 2 + pixel / 2 - 2 * (tap / 2) : tap / 4;
      const int64_t place = windows ? 2 + pixel % 2 - 2 * (tap % 2) : tap % 4;
      steps[tap] = line * from.line_step + place * from.column_step;
    }
    const float* own = from.data + channel * from.channel_step + output * from.output_step;
    for (; j < end; ++j, own += from.output_step)
      for (int tap = 0; tap < count; ++tap) taps[tap][j] = past ? 0 : own[steps[tap]];
  }
}

void sum_of(const Row& row, const Taps& taps, int64_t width, float* to) {
  for (int64_t j = 0; j < width; j += kLanes) {
    Vector sum = row.factors[0] * load(taps[row.taps[0]] + j);
    for (int i = 1; i < row.count; ++i) sum = sum + row.factors[i] * load(taps[row.taps[i]] + j);
    store(to + j, sum);
  }
}

}  // namespace

void pack(const Pack& r, ParallelFor parallel) {
  const bool windows = r.transposed && r.tile == 0;
  const int64_t columns = windows ? 4 * r.outputs : r.outputs, width = panel_width(columns), panels = ceiling(columns, width);
  const Rows rows = rows_of(r.transposed, static_cast<int>(r.tile));
  int64_t channels = 0;
  for (int f = 0; f < r.count; ++f) channels += r.filters[f].channels;
  const int64_t depth = rows.groups * channels;
  const bool pairs = r.panels.type == Type::kBfloat16;
  int64_t before = 0;  // channels of earlier filters
  for (int f = 0; f < r.count; ++f) {
    const StridedFilter& filter = r.filters[f];
    const int64_t together = filter.channels % 2 == 0 ? 2 : 1, steps = filter.channels / together;
    for_ranges(parallel, panels * steps, ceiling(kTask, kTaps * width), [&](int64_t begin, int64_t end) {
      Taps taps[2];
      float sums[2][2 * kLanes];
      for (int64_t i = begin; i < end; ++i) {
        // In the order in which the filter lies.
        const int64_t panel = r.transposed ? i % panels : i / steps;
        const int64_t channel = (r.transposed ? i / panels : i % steps) * together;
        for (int64_t t = 0; t < together; ++t) read_taps(r, filter, windows, channel + t, panel * width, width, taps[t]);
        for (int n = 0; n < rows.count; ++n) {
          const Row& row = rows.rows[n];
          const int64_t k = before * rows.groups + row.group * filter.channels + channel;
          const int64_t start = (row.part * panels + panel) * depth * width;
          for (int64_t t = 0; t < together; ++t) sum_of(row, taps[t], width, sums[t]);
          if (!pairs) {
            float* const to = static_cast<float*>(r.panels.data) + start + k * width;
            for (int64_t t = 0; t < together; ++t) std::memcpy(to + t * width, sums[t], width * sizeof(float));
          } else if (together == 2) {
            std::uint32_t words[2 * kLanes];
            for (int64_t j = 0; j < width; ++j)
              words[j] = narrowed(sums[0][j]) | static_cast<std::uint32_t>(narrowed(sums[1][j])) << 16;
            std::memcpy(static_cast<std::uint16_t*>(r.panels.data) + start + k * width, words, width * sizeof *words);
          } else {
            std::uint16_t* const to = static_cast<std::uint16_t*>(r.panels.data) + start + k / 2 * 2 * width + k % 2;
            for (int64_t j = 0; j < width; ++j) to[2 * j] = narrowed(sums[0][j]);
          }
        }
      }
    });
    before += filter.channels;
  }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
