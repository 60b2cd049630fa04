// formulas.h in float and double: against its own derivatives by differences, at its special points, and against a table that
// comes from the reference (a file given as argument): lines of a mu gamma_l gamma_r alpha m g_A g_M.
#include <cfloat>
#include <initializer_list>
#include <limits>

#include "../formulas.h"
#include "checks.h"

using namespace lbam;
using namespace lbam::tests;

namespace {

const Gaussian<double> kGaussians[] = {{1.1, 2.0, 1.0, 1.0}, {1.1, 1.0, 0.5, 0.5}, {6.0, 0.1, 2.0, 0.5}, {1.01, 3.0, 0.5, 2.0}};
const double kAlphas[] = {0.6, 0.8, 1.0};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Gaussian<float> single(const Gaussian<double>& g) { return {float(g.a), float(g.mu), float(g.gamma_l), float(g.gamma_r)}; }

Gaussian<double> rounded(const Gaussian<double>& g) {
  const Gaussian<float> s = single(g);
  return {s.a, s.mu * fault(), s.gamma_l, s.gamma_r};
}

template <typename F>
double difference(F f, double x) {
  const double step = 1e-6;
  return (f(x + step) - f(x - step)) / (2 * step);
}

void elementary() {
  for (double x = -87; x <= 88; x += 0.0137) near("exp", x, detail::exponential(float(x)) / std::exp(double(float(x))), 1, 3e-7);
  for (double x = -126; x <= 127; x += 0.0137)
    near("exp2", x, detail::exponential_of_2(float(x)) / std::exp2(double(float(x))), 1, 3e-7);
  for (double x = 1.2e-38; x < 3e38; x *= 1.0123)
    near("log2", x, detail::logarithm_to_2(float(x)), std::log2(double(float(x))), 2e-7 * (1 + std::fabs(std::log2(x))));
}

void single_precision() {
  for (const Gaussian<double>& g : kGaussians)
    for (double x = -12; x <= 12; x += 0.00317) {
      const float m = float(x);
      const Gaussian<double> wide = rounded(g);
      near("g_A", m, attention_map(m, single(g)), attention_map(double(m), wide), 1e-6 * g.a);
      const MapDerivatives<float> found = map_derivatives(m, single(g));
      const MapDerivatives<double> d = map_derivatives(double(m), wide);
      near("g_A with derivatives", m, found.map, d.map, 1e-6 * g.a);
      near("g_A by m", m, found.by_m, d.by_m, 3e-6 * g.a);
      near("g_A by a", m, found.by_a, d.by_a, 1e-6);
      near("g_A by mu", m, found.by_mu, d.by_mu, 3e-6 * g.a);
      near("g_A by gamma_l", m, found.by_gamma_l, d.by_gamma_l, 3e-6 * g.a);
      near("g_A by gamma_r", m, found.by_gamma_r, d.by_gamma_r, 3e-6 * g.a);
      for (double alpha : kAlphas) {
        const double exact = mask_update(double(m), double(float(alpha)));
        near("g_M", m, mask_update(m, float(alpha)), exact, 5e-7 * (exact + 1e-30));
        const UpdateDerivatives<float> u = update_derivatives(m, float(alpha));
        const UpdateDerivatives<double> v = update_derivatives(double(m), double(float(alpha)));
        near("g_M with derivatives", m, u.update, v.update, 5e-7 * (v.update + 1e-30));
        near("g_M by m", m, u.by_m, v.by_m, 1e-6 * (v.by_m + 1e-30));
        near("g_M by alpha", m, u.by_alpha, v.by_alpha, 2e-6 * (std::fabs(v.by_alpha) + v.update + 1e-30));
      }
    }
}

void derivatives() {
  for (const Gaussian<double>& g : kGaussians)
    for (double m = -4.9983; m <= 5; m += 0.0117) {
      const MapDerivatives<double> d = map_derivatives(m, g);
      const auto with = [&](double Gaussian<double>::* field) {
        return difference(
            [&](double x) {
              Gaussian<double> h = g;
              h.*field = x;
              return attention_map(m, h);
            },
            g.*field);
      };
      near("difference by m", m, difference([&](double x) { return attention_map(x, g); }, m), d.by_m, 1e-7 * g.a);
      near("difference by a", m, with(&Gaussian<double>::a), d.by_a, 1e-7);
      near("difference by mu", m, with(&Gaussian<double>::mu), d.by_mu, 1e-7 * g.a);
      near("difference by gamma_l", m, with(&Gaussian<double>::gamma_l), d.by_gamma_l, 1e-7 * g.a);
      near("difference by gamma_r", m, with(&Gaussian<double>::gamma_r), d.by_gamma_r, 1e-7 * g.a);
      if (std::fabs(m) < 0.05) continue;  // the slope of g_M grows too fast there for differences
      for (double alpha : kAlphas) {
        const UpdateDerivatives<double> u = update_derivatives(m, alpha);
        near("g_M difference by m", m, difference([&](double x) { return mask_update(x, alpha); }, m), u.by_m, 1e-6);
        near("g_M difference by alpha", m, difference([&](double x) { return mask_update(m, x); }, alpha), u.by_alpha, 1e-6);
      }
    }
}

void special_points() {
  const Gaussian<float> g = {1.1f, 2, 1, 0.5f};
  near("g_A at mu", 2, attention_map(2.0f, g), g.a, 0);
  near("g_A' at mu", 2, map_derivatives(2.0f, g).by_m, 0, 0);
  near("g_A far below", -kInfinity, attention_map(-kInfinity, g), 0, 1e-30);
  near("g_A far above", kInfinity, attention_map(kInfinity, g), 1, 1e-6);
  near("g_A of NaN", kNan, attention_map(kNan, g), kNan, 0);
  for (float m : {0.0f, -0.0f, -1.0f, -kInfinity}) {
    const UpdateDerivatives<float> u = update_derivatives(m, 0.8f);
    near("g_M", m, mask_update(m, 0.8f), 0, 0);
    holds("g_M and its derivatives are 0 where m is not positive", u.update == 0 && u.by_m == 0 && u.by_alpha == 0);
  }
  near("g_M of infinity", kInfinity, mask_update(kInfinity, 0.8f), kInfinity, 0);
  for (float m : {1e-45f, FLT_MIN, 1e-10f, 1e10f, FLT_MAX, 1e30f, -1e30f}) {
    const UpdateDerivatives<float> u = update_derivatives(m, 0.8f);
    const MapDerivatives<float> d = map_derivatives(m, g);
    holds("finite at the ends of the range", std::isfinite(mask_update(m, 0.8f)));
    for (float x : {u.update, u.by_m, u.by_alpha, d.map, d.by_m, d.by_a, d.by_mu, d.by_gamma_l, d.by_gamma_r})
      holds("finite at the ends of the range", std::isfinite(x));
  }
  near("leaky", -2, leaky(-2.0f, 0.25f), -0.5, 0);
  near("leaky", 2, leaky(2.0f, 0.25f), 2, 0);
  near("leaky'", 0, leaky_gradient(0.0f, 4.0f, 0.25f), 1, 0);
  near("leaky'", 1, leaky_gradient(1.0f, 4.0f, 0.25f), 4, 0);
}

void golden(const char* path) {
  std::FILE* const file = std::fopen(path, "r");
  holds("the table can be read", file != nullptr);
  if (file == nullptr) return;
  Gaussian<double> g;
  double alpha, m, map, update;
  int lines = 0;
  const char* const line = "%lf %lf %lf %lf %lf %lf %lf %lf";
  for (; std::fscanf(file, line, &g.a, &g.mu, &g.gamma_l, &g.gamma_r, &alpha, &m, &map, &update) == 8; ++lines) {
    near("g_A of the reference in double", m, attention_map(m, g), map, 1e-13 * g.a);
    near("g_A of the reference", m, attention_map(float(m), single(g)), map, 2e-6 * g.a);
    near("g_M of the reference in double", m, mask_update(m, alpha), update, 1e-13 * (1 + update));
    near("g_M of the reference", m, mask_update(float(m), float(alpha)), update, 1e-6 * (update + 1e-30));
  }
  std::fclose(file);
  holds("the table has lines", lines > 100);
}

}  // namespace

int main(int count, char** arguments) {
  elementary();
  single_precision();
  derivatives();
  special_points();
  if (count > 1) golden(arguments[1]);
  return report();
}
