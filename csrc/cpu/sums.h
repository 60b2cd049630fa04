// Sums over all positions, in double, in a partition that depends on the shape alone: any number of threads gives the same bits.
#pragma once

#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kBlocks = 128;      // at most so many partial sums
constexpr int64_t kBlockPieces = 32;  // at least so many pieces in each, while there is more than one

// Adds `kinds` sums for each channel to `sums` [kinds, channels]. body(first, last, columns) adds those of a block of pieces to
// `columns` [kinds, pieces.width], one for each column.
template <typename Body>
void add_up(const Pieces& pieces, int64_t channels, int64_t kinds, ParallelFor parallel, double* sums, Body body) {
  const int64_t share = most(ceiling(pieces.count, kBlocks), kBlockPieces);
  const int64_t blocks = ceiling(pieces.count, share), size = kinds * channels;
  const Scratch<double> partial(blocks * size);
  for_ranges(parallel, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const Scratch<double> columns(kinds * pieces.width);
      body(block * share, least((block + 1) * share, pieces.count), columns.data);
      for (int64_t kind = 0; kind < kinds; ++kind) {
        double* own = partial.data + block * size + kind * channels;
        for (int64_t j = kind * pieces.width; j < (kind + 1) * pieces.width; j += channels)
          for (int64_t c = 0; c < channels; ++c) own[c] += columns.data[j + c];
      }
    }
  });
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t j = 0; j < size; ++j) sums[j] += partial.data[block * size + j];
}

inline float total(const double* values, int64_t n) {
  double sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += values[j];
  return static_cast<float>(sum);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
