// torch.ops.lbam_native_cuda: the schemas, and their kernels.
#include "cuda_ops.h"
#include "library.h"

namespace lbam::binding {
namespace {

#if !defined(LBAM_CUDA_KEY)
#define LBAM_CUDA_KEY "CUDA"
#endif

constexpr Op kOps[] = {
    {"attend",
     "attend(Tensor features, Tensor m, Tensor scalars, Tensor alpha, Tensor? scale, Tensor? shift, float slope, bool update)"
     " -> (Tensor, Tensor)",
     attend, LBAM_CUDA_KEY},
    {"maps", "maps(Tensor m, Tensor scalars, Tensor alpha, bool map, bool update) -> (Tensor, Tensor)", maps, LBAM_CUDA_KEY},
    {"attend_backward",
     "attend_backward(Tensor dy, Tensor? du, Tensor features, Tensor m, Tensor scalars, Tensor alpha, Tensor? scale,"
     " Tensor? shift, float slope) -> (Tensor, Tensor, Tensor, Tensor)",
     attend_backward, LBAM_CUDA_KEY},
    {"statistics", "statistics(Tensor features, Tensor m, Tensor scalars) -> (Tensor, Tensor)", statistics, LBAM_CUDA_KEY},
    {"statistics_backward",
     "statistics_backward(Tensor dmean, Tensor dvariance, Tensor mean, Tensor features, Tensor m, Tensor scalars)"
     " -> (Tensor, Tensor, Tensor)",
     statistics_backward, LBAM_CUDA_KEY},
    {"encode",
     "encode(Tensor image, Tensor mask, Tensor weight, Tensor mask_weight, Tensor scalars, Tensor alpha, Tensor? scale,"
     " Tensor? shift, float slope, bool update, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
     encode, LBAM_CUDA_KEY},
    {"reconstruct",
     "reconstruct(Tensor? skip, Tensor own, Tensor? skip_weight, Tensor own_weight, bool absolute)"
     " -> Tensor",
     reconstruct, LBAM_CUDA_KEY},
    {"classify", "classify(Tensor mask) -> Tensor", classify, LBAM_CUDA_KEY},
    {"spread", "spread(Tensor kinds) -> (Tensor, Tensor, Tensor)", spread, LBAM_CUDA_KEY},
};

[[maybe_unused]] const bool registered = define("lbam_native_cuda", kOps);

}  // namespace
}  // namespace lbam::binding
