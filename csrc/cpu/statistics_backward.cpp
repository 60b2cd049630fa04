#include "backward.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void statistics_backward(const StatisticsBackward& r, ParallelFor parallel) {
  const Pieces pieces(r.positions, r.channels);
  const int64_t width = pieces.width;
  const Scratch<float> given(3 * width);
  float *mean = given.data, *by_mean = mean + width, *by_variance = by_mean + width;
  spread(r.mean, 0, r.channels, width, mean);
  spread(r.dmean, 0, r.channels, width, by_mean);
  spread(r.dvariance, 0, r.channels, width, by_variance);
  const float count = static_cast<float>(r.positions);
  for (int64_t j = 0; j < width; ++j) {
    by_mean[j] /= count;
    by_variance[j] *= 2 / count;
  }
  const Scratch<double> sums(kScalars * r.channels);
  add_up(pieces, r.channels, kScalars, parallel, sums.data, [&](int64_t first, int64_t last, double* columns) {
    const Scratch<float> buffers(4 * width);
    const auto buffer = [&](int64_t i) { return buffers.data + i * width; };
    const Gaussian<float> g = r.gaussian;
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* x = read(r.features, begin, n, buffer(0));
      const float* m = read(r.m, begin, n, buffer(1));
      float *dx = place(r.dfeatures, begin, buffer(2)), *dm = place(r.dm, begin, buffer(3));
      const Gradients results = gradients(x, dx, dm, columns, width);
      LBAM_VECTORISE
      for (int64_t j = 0; j < n; ++j) {
        const MapDerivatives<float> d = map_derivatives(m[j], g);
        results.store(j, d, by_mean[j] + (x[j] * d.map - mean[j]) * by_variance[j], 0);
      }
      write(r.dfeatures, begin, n, dx);
      write(r.dm, begin, n, dm);
    }
  });
  for (int64_t i = 0; i < kScalars; ++i) r.dscalars[i] = total(sums.data + i * r.channels, r.channels);
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
