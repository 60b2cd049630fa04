// Kernels with planted faults, each of which the emulator must show.
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 64;

int launch(void (*kernel)(float*, int), float* x, int size) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(2);
  config.blockDim = dim3(kThreads);
  return cudaLaunchKernelEx(&config, kernel, x, size);
}

// Sums of neighbours through shared memory: with a barrier between writing and reading.
template <bool kWithBarrier, int kAhead>
__global__ void neighbours(float* x, int) {
  __shared__ float shared[kThreads];
  const int thread = static_cast<int>(threadIdx.x);
  float* const own = x + blockIdx.x * kThreads;
  shared[thread] = own[thread];
  if (kWithBarrier) __syncthreads();
  own[thread] += shared[(thread + kAhead) % kThreads];
}

__global__ void beyond_the_end(float* x, int size) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i < size) x[i + 1] += 1;
}

__global__ void never_written(float* x, int) {
  __shared__ float shared[kThreads];
  if (threadIdx.x % 2 == 0) shared[threadIdx.x] = 1;
  __syncthreads();
  x[blockIdx.x * kThreads + threadIdx.x] = shared[threadIdx.x];
}

__global__ void divided_barrier(float*, int) {
  if (threadIdx.x > 3) __syncthreads();
}

__global__ void out_of_shared(float* x, int) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x + 1] = 0;
  x[0] = shared[threadIdx.x];
}

}  // namespace

extern "C" {
int fault_none(float* x, int size) { return launch(neighbours<true, 1>, x, size); }
int fault_missing_barrier_ahead(float* x, int size) { return launch(neighbours<false, 1>, x, size); }
int fault_missing_barrier_behind(float* x, int size) { return launch(neighbours<false, kThreads - 1>, x, size); }
int fault_beyond_the_end(float* x, int size) { return launch(beyond_the_end, x, size); }
int fault_never_written(float* x, int size) { return launch(never_written, x, size); }
int fault_divided_barrier(float* x, int size) { return launch(divided_barrier, x, size); }
int fault_out_of_shared(float* x, int size) { return launch(out_of_shared, x, size); }
}
