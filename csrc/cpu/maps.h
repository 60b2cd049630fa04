// g_A and g_M of a piece.
#pragma once

#include "rows.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

inline void attention_maps(const float* m, int64_t n, const Gaussian<float>& gaussian, float* map) {
  const Gaussian<float> g = gaussian;
  LBAM_VECTORISE
  for (int64_t j = 0; j < n; ++j) map[j] = attention_map(m[j], g);
}

inline void mask_updates(const float* m, int64_t n, float alpha, float* update) {
  LBAM_VECTORISE
  for (int64_t j = 0; j < n; ++j) update[j] = mask_update(m[j], alpha);
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
