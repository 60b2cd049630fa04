#include "sums.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void statistics(const Statistics& r, ParallelFor parallel) {
  const Pieces pieces(r.positions, r.channels);
  const int64_t width = pieces.width;
  const Scratch<double> sums(2 * r.channels);
  add_up(pieces, r.channels, 2, parallel, sums.data, [&](int64_t first, int64_t last, double* columns) {
    const Scratch<float> buffers(2 * width);
    const Gaussian<float> g = r.gaussian;
    double* const squares = columns + width;
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* x = read(r.features, begin, n, buffers.data);
      const float* m = read(r.m, begin, n, buffers.data + width);
      LBAM_VECTORISE
      for (int64_t j = 0; j < n; ++j) {
        const double product = x[j] * attention_map(m[j], g);
        columns[j] += product;
        squares[j] += product * product;
      }
    }
  });
  const double count = static_cast<double>(r.positions);
  for (int64_t c = 0; c < r.channels; ++c) {
    const double mean = sums.data[c] / count, variance = sums.data[r.channels + c] / count - mean * mean;
    r.mean[c] = static_cast<float>(mean);
    r.variance[c] = static_cast<float>(variance < 0 ? 0 : variance);
  }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
