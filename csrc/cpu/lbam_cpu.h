// The CPU library's interface: plain pointers and sizes; neither Python nor PyTorch.
//
// Tensors are rows of channels, [positions, channels] without gaps: NHWC. They are float or bfloat16, each its own type, computed
// in float and rounded to nearest even. Pointers need only the alignment of their elements; outputs overlap nothing but what
// their request says.
//
// To add a kernel: its request below, its line in LBAM_CPU_KERNELS, its file in the list in CMakeLists.txt. A kernel's file is
// compiled once for each instruction set, into a namespace of that name, and calls no function of the standard library that the
// linker could share between them.
#pragma once

#include <cstdint>

#include "../formulas.h"
#include "parallel.h"

namespace lbam::cpu {

enum class Type { kFloat, kBfloat16 };

struct Input {  // without data: absent
  const void* data = nullptr;
  Type type = Type::kFloat;
};

struct Output {  // without data: not wanted
  void* data = nullptr;
  Type type = Type::kFloat;
};

// y = leaky(scale * features * g_A(m) + shift) and u = g_M(m).
struct Attend {
  std::int64_t parts, positions, channels;
  Input features;  // [parts, positions, channels]
  Input m;         // [positions, channels], shared by the parts
  Gaussian<float> gaussian;
  float alpha;
  const float *scale, *shift;  // [channels], or both null
  float slope;
  Output y, u;  // as features, as m
};

// g_A(m) and g_M(m).
struct Maps {
  std::int64_t count;
  Input m;
  Gaussian<float> gaussian;
  float alpha;
  Output map, update;
};

// The gradients of `Attend` with one part.
struct AttendBackward {
  std::int64_t positions, channels;
  Input dy, du, features, m;  // du may be absent
  Gaussian<float> gaussian;
  float alpha;
  const float *scale, *shift;  // [channels], or both null
  float slope;
  Output dfeatures, dm;
  float* dscalars;         // [4]: a, mu, gamma_l, gamma_r
  float* dalpha;           // [1]
  float *dscale, *dshift;  // [channels]; unused without a scale
};

// Mean and biased variance of features * g_A(m) over the positions.
struct Statistics {
  std::int64_t positions, channels;
  Input features, m;
  Gaussian<float> gaussian;
  float *mean, *variance;  // [channels]
};

// The gradients of `Statistics`.
struct StatisticsBackward {
  std::int64_t positions, channels;
  const float *dmean, *dvariance, *mean;  // [channels]
  Input features, m;
  Gaussian<float> gaussian;
  Output dfeatures, dm;
  float* dscalars;  // [4]
};

}  // namespace lbam::cpu

#include "exemplar.h"
#include "layers.h"

namespace lbam::cpu {

#define LBAM_CPU_KERNELS(X)                  \
  X(attend, Attend)                          \
  X(maps, Maps)                              \
  X(attend_backward, AttendBackward)         \
  X(statistics, Statistics)                  \
  X(statistics_backward, StatisticsBackward) \
  X(pack, Pack)                              \
  X(filter_gradient, FilterGradient)         \
  X(encode_with_map, EncodeWithMap)          \
  X(mask_step, MaskStep)                     \
  X(decode_with_map, DecodeWithMap)          \
  X(reconstruct, Reconstruct)                \
  X(damage, Damage)                          \
  X(correction_input, CorrectionInput)       \
  X(correct, Correct)                        \
  X(exemplar, Exemplar)                      \
  X(classify, Classify)                      \
  X(spread, Spread)                          \
  X(needs, Needs)

#define LBAM_DECLARE(name, Request) void name(const Request& request, ParallelFor parallel = {});
LBAM_CPU_KERNELS(LBAM_DECLARE)

// Position of the chosen instruction set in kInstructionSets: the best that this processor has, or the one that the environment
// variable LBAM_CPU named at the first call. Throws std::runtime_error for a name that is unknown or not available here.
int instruction_set();

constexpr const char* kInstructionSets[] = {"plain", "avx2", "avx512", "avx512bf16"};

// Whether products of bfloat16 are computed; without, panels are float.
bool bfloat16_products();

// The columns that `pack` leaves of so many: it fills up the last panel.
std::int64_t packed_columns(std::int64_t columns);

}  // namespace lbam::cpu
