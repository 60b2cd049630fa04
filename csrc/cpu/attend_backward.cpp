#include "backward.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

void attend_backward(const AttendBackward& r, ParallelFor parallel) {
  enum : int64_t { kAlpha = kScalars, kScale, kShift, kKinds };
  const Pieces pieces(r.positions, r.channels);
  const int64_t width = pieces.width;
  const Scratch<float> affine(2 * width);
  float *scale = affine.data, *shift = scale + width;
  spread(r.scale, 1, r.channels, width, scale);
  spread(r.shift, 0, r.channels, width, shift);
  const Scratch<double> sums(kKinds * r.channels);
  add_up(pieces, r.channels, kKinds, parallel, sums.data, [&](int64_t first, int64_t last, double* columns) {
    const Scratch<float> buffers(6 * width);
    const auto buffer = [&](int64_t i) { return buffers.data + i * width; };
    const Gaussian<float> g = r.gaussian;
    const float alpha = r.alpha, slope = r.slope;
    double *by_alpha = columns + kAlpha * width, *by_scale = columns + kScale * width, *by_shift = columns + kShift * width;
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = pieces.begin(piece), n = pieces.size(piece);
      const float* x = read(r.features, begin, n, buffer(0));
      const float* m = read(r.m, begin, n, buffer(1));
      const float* dy = read(r.dy, begin, n, buffer(2));
      float *dx = place(r.dfeatures, begin, buffer(4)), *dm = place(r.dm, begin, buffer(5));
      const Gradients results = gradients(x, dx, dm, columns, width);
      const auto column = [&](int64_t j, float dm_of_update) __attribute__((always_inline)) {
        const MapDerivatives<float> d = map_derivatives(m[j], g);
        const float product = x[j] * d.map;
        const float dresult = leaky_gradient(product * scale[j] + shift[j], dy[j], slope);
        by_scale[j] += dresult * product;
        by_shift[j] += dresult;
        results.store(j, d, dresult * scale[j], dm_of_update);
      };
      if (r.du.data == nullptr) {
        LBAM_VECTORISE
        for (int64_t j = 0; j < n; ++j) column(j, 0);
      } else {
        const float* du = read(r.du, begin, n, buffer(3));
        LBAM_VECTORISE
        for (int64_t j = 0; j < n; ++j) {
          const UpdateDerivatives<float> d = update_derivatives(m[j], alpha);
          by_alpha[j] += du[j] * d.by_alpha;
          column(j, du[j] * d.by_m);
        }
      }
      write(r.dfeatures, begin, n, dx);
      write(r.dm, begin, n, dm);
    }
  });
  for (int64_t i = 0; i < kScalars; ++i) r.dscalars[i] = total(sums.data + i * r.channels, r.channels);
  *r.dalpha = total(sums.data + kAlpha * r.channels, r.channels);
  if (r.scale == nullptr) return;
  for (int64_t c = 0; c < r.channels; ++c) {
    r.dscale[c] = static_cast<float>(sums.data[kScale * r.channels + c]);
    r.dshift[c] = static_cast<float>(sums.data[kShift * r.channels + c]);
  }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
