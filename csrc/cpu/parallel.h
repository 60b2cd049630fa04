// How the caller's threads are used: the library has none of its own.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace lbam::cpu {

struct ParallelFor {
  // Calls body(first, last, context) for ranges that cover [begin, end), each of at least `grain` where possible, at once or one
  // after the other; returns 0 when all are done. torch_parallel_for of PyTorch's C ABI is one. Null: this thread alone.
  using Run = std::int32_t (*)(std::int64_t begin, std::int64_t end, std::int64_t grain,
                               void (*body)(std::int64_t first, std::int64_t last, void* context), void* context);

  ParallelFor(Run of = nullptr, std::int64_t count = 1) : run(of), threads(count) {}

  Run run;
  std::int64_t threads;  // that `run` uses
};

// body(space, task) for each of `tasks`, in a thread that takes the next when it is done with the last, for others may want its core;
// prepare() makes what each thread needs.
template <typename Prepare, typename Body>
inline void for_tasks(ParallelFor parallel, std::int64_t tasks, Prepare prepare, Body body) {
  std::int64_t next = 0;
  auto take = [&] {
    const auto space = prepare();
    for (std::int64_t task; (task = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < tasks;) body(space, task);
  };
  if (parallel.run == nullptr || tasks <= 1) {
    take();
    return;
  }
  const auto call = [](std::int64_t, std::int64_t, void* context) { (*static_cast<decltype(take)*>(context))(); };
  if (parallel.run(0, tasks, 1, call, &take) != 0) throw std::runtime_error("lbam: a parallel loop failed");
}

constexpr std::int64_t kRanges = 8;  // for each thread, where there is that much to do

// body(first, last) for ranges that cover [0, count), each of at least `grain` where there are several; with no `parallel`, or few
// of them, in this thread.
template <typename Body>
inline void for_ranges(ParallelFor parallel, std::int64_t count, std::int64_t grain, Body body) {
  const std::int64_t wanted = parallel.run == nullptr ? 1 : kRanges * parallel.threads, possible = count / grain;
  const std::int64_t ranges = possible < 1 ? 1 : wanted < possible ? wanted : possible;
  for_tasks(
      parallel, ranges, [] { return 0; },
      [&](int, std::int64_t range) { body(range * count / ranges, (range + 1) * count / ranges); });
}

}  // namespace lbam::cpu
