// What is compiled once for each instruction set: the kernels in a namespace of their own, and the table of them.
#pragma once

#include "lbam_cpu.h"

namespace lbam::cpu {

struct Kernels {
  int lanes;  // floats in a register
  bool bfloat16_products;
#define LBAM_FIELD(name, Request) void (*name)(const Request&, ParallelFor);
  LBAM_CPU_KERNELS(LBAM_FIELD)
#undef LBAM_FIELD
};

#if defined(LBAM_INSTRUCTION_SET)
namespace LBAM_INSTRUCTION_SET {
LBAM_CPU_KERNELS(LBAM_DECLARE)
extern const Kernels kernels;
}  // namespace LBAM_INSTRUCTION_SET
#endif

}  // namespace lbam::cpu
