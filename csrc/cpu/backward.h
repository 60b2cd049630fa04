// What the backward passes of `attend` and of `statistics` share: from the gradient of features * g_A(m) to all others.
#pragma once

#include "sums.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kScalars = 4;  // a, mu, gamma_l, gamma_r: the first sums

// The column j of the results, given there the derivatives of the map and the gradient of the product.
struct Gradients {
  const float* x;
  float *dx, *dm;
  double *by_a, *by_mu, *by_gamma_l, *by_gamma_r;

  LBAM_HD void store(int64_t j, const MapDerivatives<float>& d, float dproduct, float dm_of_update) const {
    const float dmap = dproduct * x[j];
    dx[j] = dproduct * d.map;
    dm[j] = dmap * d.by_m + dm_of_update;
    by_a[j] += dmap * d.by_a;
    by_mu[j] += dmap * d.by_mu;
    by_gamma_l[j] += dmap * d.by_gamma_l;
    by_gamma_r[j] += dmap * d.by_gamma_r;
  }
};

inline Gradients gradients(const float* x, float* dx, float* dm, double* columns, int64_t width) {
  return {x, dx, dm, columns, columns + width, columns + 2 * width, columns + 3 * width};
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
