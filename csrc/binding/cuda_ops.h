// The ops for CUDA, as PyTorch's ABI calls them: arguments on the stack, which their results replace.
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
  X(encode)              \
  X(reconstruct)         \
  X(classify)            \
  X(spread)

#define LBAM_OP(name) void name(StableIValue* stack, std::uint64_t inputs, std::uint64_t outputs);
LBAM_OPS(LBAM_OP)
#undef LBAM_OP

}  // namespace lbam::binding
