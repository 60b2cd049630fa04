#include "kernels.h"
#include "vectors.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {

#define LBAM_ENTRY(name, Request) name,
const Kernels kernels = {kLanes, kBfloat16Products, LBAM_CPU_KERNELS(LBAM_ENTRY)};

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
