// Counts what is wrong, and says it.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace lbam::tests {

inline int& faults() {
  static int count = 0;
  return count;
}

// 1, or with the environment variable LBAM_FAULT a little more: what is expected is then wrong, and the tests must find it.
inline double fault() {
  static const double factor = std::getenv("LBAM_FAULT") == nullptr ? 1 : 1 + 1e-3;
  return factor;
}

inline bool same(double found, double expected, double error) {
  if (std::isnan(expected)) return std::isnan(found);
  return found == expected || std::fabs(found - expected) <= error;
}

// Both NaN, equal, or at most `error` apart.
inline void near(const char* what, double at, double found, double expected, double error) {
  if (same(found, expected, error)) return;
  if (++faults() <= 20) std::printf("%s at %.9g: %.9g, expected %.9g +- %.2g\n", what, at, found, expected, error);
}

inline void holds(const char* what, bool condition) {
  if (condition) return;
  if (++faults() <= 20) std::printf("%s: does not hold\n", what);
}

inline int report() {
  std::printf(faults() == 0 ? "all right\n" : "%d faults\n", faults());
  return faults() == 0 ? 0 : 1;
}

}  // namespace lbam::tests
