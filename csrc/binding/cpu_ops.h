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
  X(filter_gradient)     \
  X(panel_elements)      \
  X(encode_with_map)     \
  X(mask_step)           \
  X(decode_with_map)     \
  X(reconstruct)         \
  X(in_large_pages)      \
  X(damage)              \
  X(correction_input)    \
  X(correct)             \
  X(exemplar)            \
  X(classify)            \
  X(spread)              \
  X(needs)

#define LBAM_OP(name) void name(StableIValue* stack, std::uint64_t inputs, std::uint64_t outputs);
LBAM_OPS(LBAM_OP)
#undef LBAM_OP

}  // namespace lbam::binding
