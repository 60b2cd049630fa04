// The part of PyTorch's stable C ABI that the bindings call. It is declared here, as in PyTorch 2.9, so that building needs no
// PyTorch and one binary serves every release since. With LBAM_TORCH_HEADERS the compiler compares it with PyTorch's own headers.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(LBAM_TORCH_HEADERS)
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#if __has_include(<torch/csrc/stable/c/shim.h>)
#include <torch/csrc/stable/c/shim.h>
#endif
#endif

extern "C" {

struct AtenTensorOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
class TorchLibraryOpaque;
using TorchLibraryHandle = TorchLibraryOpaque*;
using StableIValue = std::uint64_t;
using AOTITorchError = std::int32_t;  // 0: done

AOTITorchError aoti_torch_library_init_fragment(const char* ns, const char* file, std::uint32_t line, TorchLibraryHandle* ret);
AOTITorchError aoti_torch_library_init_impl(const char* ns, const char* key, const char* file, std::uint32_t line,
                                            TorchLibraryHandle* ret);
AOTITorchError aoti_torch_library_def(TorchLibraryHandle self, const char* schema);
AOTITorchError aoti_torch_library_impl(TorchLibraryHandle self, const char* name,
                                       void (*fn)(StableIValue* stack, std::uint64_t inputs, std::uint64_t outputs));

std::int32_t aoti_torch_device_type_cpu();
std::int32_t aoti_torch_device_type_cuda();
std::int32_t aoti_torch_dtype_float32();
std::int32_t aoti_torch_dtype_float16();
std::int32_t aoti_torch_dtype_bfloat16();
std::int32_t aoti_torch_dtype_int32();
std::int32_t aoti_torch_dtype_uint8();

AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor);
AOTITorchError aoti_torch_get_data_ptr(AtenTensorHandle tensor, void** ret);
AOTITorchError aoti_torch_get_dim(AtenTensorHandle tensor, std::int64_t* ret);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle tensor, std::int64_t** ret);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle tensor, std::int64_t** ret);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle tensor, std::int32_t* ret);
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle tensor, std::int32_t* ret);
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle tensor, std::int32_t* ret);
AOTITorchError aoti_torch_empty_strided(std::int64_t ndim, const std::int64_t* sizes, const std::int64_t* strides,
                                        std::int32_t dtype, std::int32_t device_type, std::int32_t device_index,
                                        AtenTensorHandle* ret);

// Of the library for CUDA.
struct CUDAGuardOpaque;
using CUDAGuardHandle = CUDAGuardOpaque*;
AOTITorchError aoti_torch_create_cuda_guard(std::int32_t device_index, CUDAGuardHandle* ret);
AOTITorchError aoti_torch_delete_cuda_guard(CUDAGuardHandle guard);
AOTITorchError aoti_torch_get_current_cuda_stream(std::int32_t device_index, void** ret);

// Since 2.10; null where they are missing.
__attribute__((weak)) AOTITorchError torch_get_num_threads(std::uint32_t* ret);
__attribute__((weak)) AOTITorchError torch_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                                                        void (*body)(std::int64_t first, std::int64_t last, void* context),
                                                        void* context);
}
