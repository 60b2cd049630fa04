// The ops for the CPU, as PyTorch's ABI calls them: arguments on the stack, which their results replace.
#pragma once

#include <cstdint>

#include "stable_abi.h"

namespace lbam::binding {

#define LBAM_OPS(X)      \
  X(attend)              \
  X(maps)                \
  X(attend_backward)     \
  X(statistics)          \
  X(statistics_backward) \
  X(pack)                \
  X(panel_elements)      \
  X(encode)              \
  X(advance)             \
  X(decode)              \
  X(reconstruct)         \
  X(in_large_pages)      \
  X(damaged)             \
  X(harmonic)            \
  X(exemplar)            \
  X(classified)          \
  X(regions)

#define LBAM_OP(name) void name(StableIValue* stack, std::uint64_t inputs, std::uint64_t outputs);
LBAM_OPS(LBAM_OP)
#undef LBAM_OP

}  // namespace lbam::binding
