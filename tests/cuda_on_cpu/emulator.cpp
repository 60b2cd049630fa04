// Runs kernels thread by thread: each from one barrier to the next, in ascending or descending order.
//
// Descending order shows a thread that reads what a later one should have written before; a value that nobody wrote is NaN, since
// shared memory is filled with ones before each block. Built with -fsanitize=thread, threads are ordered by barriers alone,
// so that the sanitizer sees each race within a block whatever the order.
#include <link.h>
#include <ucontext.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr std::size_t kStack = 256 * 1024;

enum class State { kReady, kWaiting, kDone };

struct Fiber {
  ucontext_t context;
  dim3 index;
  State state = State::kDone;
  void* stack = nullptr;  // null for the scheduler, which has its own
  std::size_t stack_size = 0;
  void* sanitizer = nullptr;
};

struct Emulator {
  Fiber scheduler;
  std::vector<std::unique_ptr<Fiber>> fibers;
  Fiber* current = nullptr;
  const std::function<void()>* thread = nullptr;
  bool descending = false;
};

Emulator emulator;
thread_local char shared_memory_mark;

#if defined(__SANITIZE_THREAD__)
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))
// What a thread did is known to the scheduler once all have arrived, and to the others through it.
void arrive() { __tsan_release(&emulator.current); }
void depart() { __tsan_acquire(&emulator.scheduler); }
void relay() {
  __tsan_acquire(&emulator.current);
  __tsan_release(&emulator.scheduler);
}
#else
#define UNSEEN
void arrive() {}
void depart() {}
void relay() {}
#endif

UNSEEN void switch_to(Fiber& next) {
  Fiber& self = *emulator.current;
  emulator.current = &next;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(next.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&self.sanitizer, next.stack, next.stack_size);
#endif
  swapcontext(&self.context, &next.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.sanitizer, nullptr, nullptr);
#endif
}

UNSEEN void leave(State state) {
  arrive();
  emulator.current->state = state;
  switch_to(emulator.scheduler);
  depart();
}

// The life of a fiber: one block after the other.
UNSEEN void live() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, const_cast<const void**>(&emulator.scheduler.stack), &emulator.scheduler.stack_size);
#endif
  depart();
  for (;;) {
    (*emulator.thread)();
    leave(State::kDone);
  }
}

UNSEEN std::unique_ptr<Fiber> born() {
  auto fiber = std::make_unique<Fiber>();
  fiber->stack_size = kStack;
  fiber->stack = ::operator new(kStack);
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = kStack;
  makecontext(&fiber->context, live, 0);
#if defined(__SANITIZE_THREAD__)
  fiber->sanitizer = __tsan_create_fiber(0);
#endif
  return fiber;
}

// The thread-local memory of this library, which is the kernels' shared memory, filled with ones.
UNSEEN void spoil_shared_memory() {
  *const_cast<volatile char*>(&shared_memory_mark) = 0;  // from here on it exists
  dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void*) {
        for (int i = 0; i < library->dlpi_phnum; ++i) {
          const auto& segment = library->dlpi_phdr[i];
          auto* const begin = static_cast<char*>(library->dlpi_tls_data);
          if (segment.p_type != PT_TLS || &shared_memory_mark < begin || &shared_memory_mark >= begin + segment.p_memsz) continue;
          std::memset(begin, -1, segment.p_memsz);
        }
        return 0;
      },
      nullptr);
}

// Lets each thread of a block run to its end.
UNSEEN cudaError_t run_block(std::size_t threads) {
  spoil_shared_memory();
  relay();
  for (std::size_t i = 0; i < threads; ++i) emulator.fibers[i]->state = State::kReady;
  for (;;) {
    std::size_t done = 0;
    for (std::size_t i = 0; i < threads; ++i) {
      Fiber& fiber = *emulator.fibers[emulator.descending ? threads - 1 - i : i];
      threadIdx = fiber.index;
      switch_to(fiber);
      done += fiber.state == State::kDone;
    }
    relay();
    if (done == threads) return cudaSuccess;
    if (done != 0) {
      std::fputs("cuda_on_cpu: a barrier that not all threads of a block reach\n", stderr);
      for (auto& fiber : emulator.fibers) fiber.release();  // they wait for ever
      emulator.fibers.clear();
      return cudaErrorLaunchFailure;
    }
  }
}

}  // namespace

UNSEEN void __syncthreads() { leave(State::kWaiting); }

UNSEEN cudaError_t run_on_cpu(dim3 grid, dim3 block, const std::function<void()>& thread) {
  const std::size_t threads = static_cast<std::size_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaErrorInvalidValue;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidValue;
  emulator.current = &emulator.scheduler;
#if defined(__SANITIZE_THREAD__)
  emulator.scheduler.sanitizer = __tsan_get_current_fiber();
#endif
  emulator.thread = &thread;
  blockDim = block;
  gridDim = grid;
  while (emulator.fibers.size() < threads) emulator.fibers.push_back(born());
  for (unsigned i = 0; i < threads; ++i) emulator.fibers[i]->index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  const std::size_t blocks = static_cast<std::size_t>(grid.x) * grid.y * grid.z;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t number = emulator.descending ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                static_cast<unsigned>(number / grid.x / grid.y)};
    const cudaError_t error = run_block(threads);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

extern "C" void cuda_on_cpu_descending(bool descending) { emulator.descending = descending; }
