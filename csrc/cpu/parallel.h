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

// body(first, last) for ranges that cover [0, count); with no `parallel`, or few of them, in this thread.
template <typename Body>
inline void for_ranges(ParallelFor parallel, std::int64_t count, std::int64_t grain, Body body) {
  if (parallel.run == nullptr || count <= grain) {
    body(std::int64_t{0}, count);
    return;
  }
  const auto call = [](std::int64_t first, std::int64_t last, void* context) { (*static_cast<Body*>(context))(first, last); };
  if (parallel.run(0, count, grain, call, &body) != 0) throw std::runtime_error("lbam: a parallel loop failed");
}

}  // namespace lbam::cpu
