// Prints the speed of each kernel in this thread, in million elements per second, on [32768, 64].
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "../cpu/lbam_cpu.h"

using namespace lbam;
using namespace lbam::cpu;

namespace {

constexpr std::int64_t kPositions = 32768, kChannels = 64, kCount = kPositions * kChannels;

// The best of several runs.
template <typename Run>
void measure(const char* name, Run run) {
  double best = 1e9;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::printf("%s %.0f\n", name, kCount / best / 1e6);
}

template <typename T>
std::vector<T> normal(int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.5f, 1);
  std::vector<T> values(kCount);
  for (T& x : values) {
    const float value = distribution(random);
    x = sizeof(T) == 4 ? T(value) : T(static_cast<std::uint32_t>(detail::bits_of(value)) >> 16);
  }
  return values;
}

template <typename T>
void all(Type type) {
  std::vector<T> x = normal<T>(1), m = normal<T>(2), dy = normal<T>(3), du = normal<T>(4), y(kCount), u(kCount);
  const std::vector<float> scale(kChannels, 1.1f), shift(kChannels, 0.1f);
  std::vector<float> first(kChannels), second(kChannels);
  float scalars[4], alpha;
  const Gaussian<float> g = {1.1f, 1.5f, 1, 0.8f};
  const auto in = [&](const std::vector<T>& v) { return Input{v.data(), type}; };
  const auto out = [&](std::vector<T>& v) { return Output{v.data(), type}; };
  std::printf("%s, %s:\n", kInstructionSets[instruction_set()], type == Type::kFloat ? "float" : "bfloat16");
  for (bool update : {false, true}) {
    const Output new_mask = update ? out(u) : Output{};
    measure(update ? "attend with update" : "attend", [&] {
      attend({1, kPositions, kChannels, in(x), in(m), g, 0.8f, scale.data(), shift.data(), 0.2f, out(y), new_mask});
    });
  }
  measure("maps, g_A", [&] { maps({kCount, in(m), g, 0.8f, out(y), {}}); });
  measure("maps, g_M", [&] { maps({kCount, in(m), g, 0.8f, {}, out(u)}); });
  for (bool update : {false, true}) {
    const Input gradient = update ? in(du) : Input{};
    measure(update ? "attend_backward with update" : "attend_backward", [&] {
      attend_backward({kPositions, kChannels, in(dy), gradient, in(x), in(m), g, 0.8f, scale.data(), shift.data(), 0.2f, out(y),
                       out(u), scalars, &alpha, first.data(), second.data()});
    });
  }
  measure("statistics", [&] { statistics({kPositions, kChannels, in(x), in(m), g, first.data(), second.data()}); });
  measure("statistics_backward", [&] {
    statistics_backward(
        {kPositions, kChannels, scale.data(), shift.data(), shift.data(), in(x), in(m), g, out(y), out(u), scalars});
  });
}

}  // namespace

int main() {
  all<float>(Type::kFloat);
  all<std::uint16_t>(Type::kBfloat16);
}
