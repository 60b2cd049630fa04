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
    {"first_layer",
     "first_layer(Tensor image, Tensor mask, Tensor weight, Tensor mask_weight, Tensor scalars, Tensor alpha, Tensor? scale,"
     " Tensor? shift, float slope, bool update, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
     first_layer, LBAM_CUDA_KEY},
    {"last_layer",
     "last_layer(Tensor? skip, Tensor own, Tensor? skip_weight, Tensor own_weight, bool absolute, Tensor? image, Tensor? mask)"
     " -> Tensor",
     last_layer, LBAM_CUDA_KEY},
    {"classified", "classified(Tensor mask) -> Tensor", classified, LBAM_CUDA_KEY},
    {"regions", "regions(Tensor kinds) -> (Tensor, Tensor, Tensor)", regions, LBAM_CUDA_KEY},
};

[[maybe_unused]] const bool registered = define("lbam_native_cuda", kOps);

}  // namespace
}  // namespace lbam::binding
