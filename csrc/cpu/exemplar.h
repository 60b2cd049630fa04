// The request of the kernel `exemplar`: texture for holes from the picture itself.
#pragma once

#include <cstdint>

namespace lbam::cpu {

// lbam_fast.reference.exemplar is the specification, to the bit but for the last rounding.
struct Exemplar {
  std::int64_t height, width;
  const float* picture;      // [height, width, 3], in [0, 1]: in the hole, what guides the choice
  const std::uint8_t* hole;  // [height, width], 1 in the hole
  std::uint32_t seed;
  float* filled;  // as picture, the same where nothing is hole
};

}  // namespace lbam::cpu
