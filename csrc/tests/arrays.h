// Tensors as a caller may hand them over, and a caller's threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "../cpu/lbam_cpu.h"
#include "checks.h"

namespace lbam::tests {

// Elements of either type, aligned to their own size only, all NaN at first, as are the `around` elements on both sides. With
// `around` 0 there is one before, and what follows is not the program's: for tools that see accesses.
class Array {
 public:
  Array(std::int64_t count, cpu::Type type, std::int64_t around = 1)
      : count_(count), type_(type), before_(around | 1), bytes_((before_ + count + around) * size(), 0xff) {}

  float operator[](std::int64_t i) const {
    if (type_ == cpu::Type::kFloat) return load<float>(i);
    return detail::float_of(std::int32_t(std::uint32_t(load<std::uint16_t>(i)) << 16));
  }

  void set(std::int64_t i, float x) {  // rounded towards zero
    if (type_ == cpu::Type::kFloat) return store(i, x);
    store(i, std::uint16_t(std::uint32_t(detail::bits_of(x)) >> 16));
  }

  void* data(std::int64_t from = 0) { return bytes_.data() + (before_ + from) * size(); }
  const float* floats() { return static_cast<const float*>(data()); }
  cpu::Input input() { return {data(), type_}; }
  cpu::Output output(std::int64_t from = 0) { return {data(from), type_}; }
  std::int64_t count() const { return count_; }
  cpu::Type type() const { return type_; }

  void check_ends() const {
    bool same = true;
    for (std::int64_t i = 0; i < std::int64_t(bytes_.size()); ++i)
      if (i < before_ * size() || i >= (before_ + count_) * size()) same &= bytes_[i] == 0xff;
    holds("nothing is written outside", same);
  }

  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

 private:
  std::int64_t size() const { return type_ == cpu::Type::kFloat ? 4 : 2; }

  template <typename T>
  T load(std::int64_t i) const {
    T x;
    std::memcpy(&x, bytes_.data() + (before_ + i) * sizeof(T), sizeof(T));
    return x;
  }

  template <typename T>
  void store(std::int64_t i, T x) {
    std::memcpy(bytes_.data() + (before_ + i) * sizeof(T), &x, sizeof(T));
  }

  std::int64_t count_;
  cpu::Type type_;
  std::int64_t before_;
  std::vector<unsigned char> bytes_;
};

// Ranges of odd sizes, the last ones first, each in a thread.
inline std::int32_t three_threads(std::int64_t begin, std::int64_t end, std::int64_t,
                                  void (*body)(std::int64_t, std::int64_t, void*), void* context) {
  std::vector<std::thread> threads;
  for (int i = 2; i >= 0; --i)
    threads.emplace_back(body, begin + (end - begin) * i / 3, begin + (end - begin) * (i + 1) / 3, context);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace lbam::tests
