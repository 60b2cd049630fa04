// The parameters of an attention as a thread holds them.
#pragma once

#include "../formulas.h"
#include "elements.h"

namespace lbam::cuda {

LBAM_DEVICE Gaussian<float> load_gaussian(const float* scalars) { return {scalars[0], scalars[1], scalars[2], scalars[3]}; }

// Scale and shift of some channels; 1 and 0 where there are none.
template <int kWidth>
struct Affine {
  float scale[kWidth], shift[kWidth];

  LBAM_DEVICE Affine(const Parameters& parameters, std::int64_t channel, std::int64_t count = kWidth) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const bool there = parameters.scale != nullptr && k < count;
      scale[k] = there ? parameters.scale[channel + k] : 1;
      shift[k] = there ? parameters.shift[channel + k] : 0;
    }
  }
};

}  // namespace lbam::cuda
