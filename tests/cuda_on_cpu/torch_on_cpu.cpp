// What of PyTorch for CUDA the bindings call, of a device that is the CPU: hidden, so that this library alone finds it.
#include "../../csrc/binding/stable_abi.h"

#pragma GCC visibility push(hidden)

extern "C" {
std::int32_t aoti_torch_device_type_cuda() { return aoti_torch_device_type_cpu(); }

AOTITorchError aoti_torch_create_cuda_guard(std::int32_t, CUDAGuardHandle* ret) {
  *ret = nullptr;
  return 0;
}

AOTITorchError aoti_torch_delete_cuda_guard(CUDAGuardHandle) { return 0; }

AOTITorchError aoti_torch_get_current_cuda_stream(std::int32_t, void** ret) {
  *ret = nullptr;
  return 0;
}
}
