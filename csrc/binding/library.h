// Ops as they are registered with PyTorch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor.h"

namespace lbam::binding {

struct Op {
  const char *name, *schema;
  void (*kernel)(StableIValue* stack, std::uint64_t inputs, std::uint64_t outputs);
  const char* key;  // of the dispatcher
};

// Called once, while the library is loaded; what it registers lives as long as the process.
template <std::size_t kCount>
bool define(const char* name, const Op (&ops)[kCount]) {
  TorchLibraryHandle definitions = nullptr;
  done(aoti_torch_library_init_fragment(name, __FILE__, __LINE__, &definitions));
  for (const Op& op : ops) {
    done(aoti_torch_library_def(definitions, op.schema));
    TorchLibraryHandle kernels = nullptr;
    done(aoti_torch_library_init_impl(name, op.key, __FILE__, __LINE__, &kernels));
    done(aoti_torch_library_impl(kernels, op.name, op.kernel));
  }
  return true;
}

}  // namespace lbam::binding
