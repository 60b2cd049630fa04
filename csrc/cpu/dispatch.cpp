// Chooses the instruction set, once, and forwards to its kernels.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace lbam::cpu {

namespace plain {
extern const Kernels kernels;
}
#if defined(LBAM_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512bf16 {
extern const Kernels kernels;
}
#endif

namespace {

struct Choice {
  const char* name;
  const Kernels* kernels;
  bool available;
};

int best(const Choice* choices, int count) {
  while (!choices[count - 1].available) --count;
  return count - 1;
}

int named(const Choice* choices, int count, const char* name) {
  std::string known;
  for (int i = 0; i < count; ++i) {
    if (!choices[i].available) continue;
    if (std::strcmp(choices[i].name, name) == 0) return i;
    known += std::string(known.empty() ? "" : ", ") + choices[i].name;
  }
  throw std::runtime_error("the environment variable LBAM_CPU is '" + std::string(name) + "': this processor has " + known);
}

struct Chosen {
  int index;
  const Kernels* kernels;
};

Chosen choose() {
#if defined(LBAM_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
#endif
  const Choice choices[] = {
      {kInstructionSets[0], &plain::kernels, true},
#if defined(LBAM_X86)
      {kInstructionSets[1], &avx2::kernels, avx2},
      {kInstructionSets[2], &avx512::kernels, avx512},
      {kInstructionSets[3], &avx512bf16::kernels, avx512 && __builtin_cpu_supports("avx512bf16")},
#endif
  };
  const int count = sizeof choices / sizeof *choices;
  const char* name = std::getenv("LBAM_CPU");
  const int index = name == nullptr || *name == '\0' ? best(choices, count) : named(choices, count, name);
  return {index, choices[index].kernels};
}

const Chosen& chosen() {
  static const Chosen result = choose();
  return result;
}

}  // namespace

int instruction_set() { return chosen().index; }

bool bfloat16_products() { return chosen().kernels->bfloat16_products; }

std::int64_t packed_columns(std::int64_t columns) {
  const std::int64_t lanes = chosen().kernels->lanes, width = columns <= lanes ? lanes : 2 * lanes;
  return (columns + width - 1) / width * width;
}

#define LBAM_FORWARD(name, Request) \
  void name(const Request& request, ParallelFor parallel) { chosen().kernels->name(request, parallel); }
LBAM_CPU_KERNELS(LBAM_FORWARD)

}  // namespace lbam::cpu
