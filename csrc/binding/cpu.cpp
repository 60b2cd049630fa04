// torch.ops.lbam_native: the schemas, and their kernels for the CPU.
#include "../cpu/lbam_cpu.h"
#include "cpu_ops.h"
#include "library.h"

namespace lbam::binding {
namespace {

void instruction_set(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = static_cast<StableIValue>(cpu::instruction_set());
}

void bfloat16_products(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = static_cast<StableIValue>(cpu::bfloat16_products());
}

constexpr Op kOps[] = {
    {"attend",
     "attend(Tensor features, Tensor m, Tensor scalars, Tensor alpha, Tensor? scale, Tensor? shift, float slope, bool update)"
     " -> (Tensor, Tensor)",
     attend, "CPU"},
    {"maps", "maps(Tensor m, Tensor? scalars, Tensor? alpha, bool bfloat16) -> (Tensor, Tensor)", maps, "CPU"},
    {"attend_backward",
     "attend_backward(Tensor dy, Tensor? du, Tensor features, Tensor m, Tensor scalars, Tensor alpha, Tensor? scale,"
     " Tensor? shift, float slope) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
     attend_backward, "CPU"},
    {"statistics", "statistics(Tensor features, Tensor m, Tensor scalars) -> (Tensor, Tensor)", statistics, "CPU"},
    {"statistics_backward",
     "statistics_backward(Tensor dmean, Tensor dvariance, Tensor mean, Tensor features, Tensor m, Tensor scalars)"
     " -> (Tensor, Tensor, Tensor)",
     statistics_backward, "CPU"},
    {"pack", "pack(Tensor? first, Tensor weight, bool transposed, int tile, Tensor(a!) out) -> ()", pack, "CPU"},
    {"filter_gradient", "filter_gradient(Tensor small, Tensor large, Tensor(a!) out) -> ()", filter_gradient, "CPU"},
    {"panel_elements", "panel_elements(int channels, int outputs, bool transposed, int tile) -> int", panel_elements,
     "CompositeExplicitAutograd"},
    {"encode_with_map",
     "encode_with_map(Tensor x, Tensor weight, Tensor? attention, Tensor? scale, Tensor? shift, float slope, int tile,"
     " Tensor(a!) out) -> ()",
     encode_with_map, "CPU"},
    {"mask_step",
     "mask_step(Tensor u, Tensor weight, int outputs, Tensor scalars, Tensor alpha, Tensor? order, Tensor? kinds, Tensor? constant,"
     " int tile, Tensor(a!)? attention, Tensor(b!)? update) -> ()",
     mask_step, "CPU"},
    {"decode_with_map",
     "decode_with_map(Tensor? skip, Tensor own, Tensor weight, Tensor? attention, Tensor? scale, Tensor? shift, float slope,"
     " int tile, Tensor? needed, Tensor(a!) out) -> ()",
     decode_with_map, "CPU"},
    {"reconstruct", "reconstruct(Tensor skip, Tensor own, Tensor weight, bool absolute, Tensor? needed, Tensor(a!) out) -> ()",
     reconstruct, "CPU"},
    {"in_large_pages", "in_large_pages(Tensor x) -> ()", in_large_pages, "CPU"},
    {"damage", "damage(Tensor image, Tensor mask, Tensor(a!) out) -> ()", damage, "CPU"},
    {"correction_input",
     "correction_input(Tensor image, Tensor mask, Tensor trend, float contrast, int levels, int first_sweeps, int cycles,"
     " int sweeps, int coarsest_sweeps, Tensor(a!) x, Tensor(b!) base) -> ()",
     correction_input, "CPU"},
    {"correct", "correct(Tensor base, Tensor y, Tensor(a!) out) -> ()", correct, "CPU"},
    {"exemplar", "exemplar(Tensor picture, Tensor hole, int seed, bool alone, Tensor(a!) filled) -> ()", exemplar, "CPU"},
    {"classify", "classify(Tensor mask, Tensor(a!) kinds) -> ()", classify, "CPU"},
    {"spread", "spread(Tensor kinds, Tensor(a!) next, Tensor(b!) order, Tensor(c!) sorted) -> ()", spread, "CPU"},
    {"needs", "needs(Tensor needed, Tensor(a!) inputs) -> ()", needs, "CPU"},
    {"bfloat16_products", "bfloat16_products() -> bool", bfloat16_products, "CompositeExplicitAutograd"},
    {"instruction_set", "instruction_set() -> int", instruction_set, "CompositeExplicitAutograd"},
};

[[maybe_unused]] const bool registered = define("lbam_native", kOps);

}  // namespace
}  // namespace lbam::binding
