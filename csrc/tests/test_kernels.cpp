// The kernels of the instruction set that LBAM_CPU names against a naive version in double, on awkward shapes and values; with
// the argument "quick" on fewer of them.
#include <limits>
#include <random>

#include "arrays.h"

using namespace lbam;
using namespace lbam::cpu;
using namespace lbam::tests;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kAwkward = 1e30;  // stands for a value that is compared by its kind alone

struct Case {
  std::int64_t parts, positions, channels;
  bool affine, update;
  Type type;
  bool awkward;
};

struct Problem {
  explicit Problem(const Case& of)
      : of(of),
        g{1.3f, 1.375f, 1.1f, 0.7f},
        features(of.parts * of.positions * of.channels, of.type),
        dy(features.count(), of.type),
        m(of.positions * of.channels, of.type),
        du(m.count(), of.type),
        scale(of.channels),
        shift(of.channels),
        mean(of.channels) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < features.count(); ++i) features.set(i, normal(random)), dy.set(i, normal(random));
    const float special[] = {0, -0.0f, g.mu, -1, 1e-30f, kNan, kInfinity, -kInfinity};
    for (std::int64_t i = 0; i < m.count(); ++i) {
      const bool pick = i % 5 == 0;
      m.set(i, pick ? special[i / 5 % (of.awkward ? 8 : 4)] : 1 + 1.2f * normal(random));
      du.set(i, normal(random));
    }
    for (std::int64_t c = 0; c < of.channels; ++c)
      scale[c] = 1 + 0.4f * normal(random), shift[c] = normal(random), mean[c] = normal(random);
  }

  const float* given(const std::vector<float>& values) const { return of.affine ? values.data() : nullptr; }
  double scale_of(std::int64_t i) const { return of.affine ? scale[i % of.channels] : 1; }
  double shift_of(std::int64_t i) const { return of.affine ? shift[i % of.channels] : 0; }
  Gaussian<double> wide() const { return {g.a, g.mu * fault(), g.gamma_l, g.gamma_r}; }

  const Case of;
  const Gaussian<float> g;
  const float alpha = 0.73f, slope = 0.2f;
  Array features, dy, m, du;
  std::vector<float> scale, shift, mean;
};

// A rounding of the result, and `spare` of float32 at the size of the terms.
double error(const Case& of, double expected, double size, double spare = 16) {
  return (of.type == Type::kFloat ? 0 : std::fabs(expected) / 256) + spare * 1.2e-7 * (size + std::fabs(expected));
}

bool ordinary(double x) { return std::isfinite(x) && std::fabs(x) < kAwkward; }

void check_forward(const Case& of, ParallelFor parallel) {
  Problem p(of);
  Array y(p.features.count(), of.type), u(p.m.count(), of.type), map(p.m.count(), of.type), update(p.m.count(), of.type);
  attend({of.parts, of.positions, of.channels, p.features.input(), p.m.input(), p.g, p.alpha, p.given(p.scale), p.given(p.shift),
          p.slope, y.output(), of.update ? u.output() : Output{}},
         parallel);
  maps({p.m.count(), p.m.input(), p.g, p.alpha, map.output(), update.output()}, parallel);
  for (std::int64_t i = 0; i < y.count(); ++i) {
    const double m = p.m[i % p.m.count()], x = p.features[i];
    const double expected = attend(x, m, p.wide(), p.scale_of(i), p.shift_of(i), double(p.slope));
    near("attend", m, y[i], expected, error(of, expected, std::fabs(x) + 1));
  }
  for (std::int64_t i = 0; i < p.m.count(); ++i) {
    const double m = p.m[i], expected = attention_map(m, p.wide()), power = m > 0 ? std::pow(m, double(p.alpha)) : 0;
    near("map", m, map[i], expected, error(of, expected, 1));
    if (std::isnan(m)) continue;
    near("update", m, update[i], power, error(of, power, power));
    if (of.update) near("u", m, u[i], power, error(of, power, power));
  }
  for (const Array* x : {&y, &u, &map, &update}) x->check_ends();
}

void check_sum(const char* what, double found, double expected, double size, double terms) {
  near(what, terms, found, expected, 1.2e-7 * (8 * std::sqrt(terms) * size + std::fabs(expected)) + 1e-30);
}

// What a backward pass gives for the gradient of the product, summed naively.
struct Naive {
  double scalars[4] = {}, alpha = 0, size = 0;
  std::vector<double> scale, shift;
};

void check_backward(const Case& of, ParallelFor parallel) {
  Problem p(of);
  Array dx(p.features.count(), of.type), dm(p.m.count(), of.type);
  float scalars[4], alpha;
  std::vector<float> dscale(of.channels), dshift(of.channels);
  attend_backward(
      {of.positions, of.channels, p.dy.input(), of.update ? p.du.input() : Input{}, p.features.input(), p.m.input(), p.g, p.alpha,
       p.given(p.scale), p.given(p.shift), p.slope, dx.output(), dm.output(), scalars, &alpha, dscale.data(), dshift.data()},
      parallel);
  Naive sums;
  sums.scale.resize(of.channels), sums.shift.resize(of.channels);
  for (std::int64_t i = 0; i < dx.count(); ++i) {
    const double x = p.features[i], m = p.m[i], du = of.update ? p.du[i] : 0;
    const MapDerivatives<double> d = map_derivatives(m, p.wide());
    const UpdateDerivatives<double> v = update_derivatives(m, double(p.alpha));
    const double product = x * d.map;
    const double dresult = leaky_gradient(product * p.scale_of(i) + p.shift_of(i), double(p.dy[i]), double(p.slope));
    const double dmap = dresult * p.scale_of(i) * x, expected_dx = dresult * p.scale_of(i) * d.map;
    const double expected_dm = dmap * d.by_m + (of.update ? du * v.by_m : 0);
    if (ordinary(m) || std::isnan(m)) {
      near("dfeatures", m, dx[i], expected_dx, error(of, expected_dx, std::fabs(dresult * p.scale_of(i))));
      if (!std::isnan(m)) near("dm", m, dm[i], expected_dm, error(of, expected_dm, std::fabs(dmap) + std::fabs(du * v.by_m)));
    }
    const double by[] = {d.by_a, d.by_mu, d.by_gamma_l, d.by_gamma_r};
    for (int k = 0; k < 4; ++k) sums.scalars[k] += dmap * by[k];
    if (of.update) sums.alpha += du * v.by_alpha;
    sums.scale[i % of.channels] += dresult * product, sums.shift[i % of.channels] += dresult;
    sums.size = std::fmax(sums.size, std::fabs(dmap) + std::fabs(dresult * product) + std::fabs(dresult) + std::fabs(du));
  }
  dx.check_ends(), dm.check_ends();
  if (of.awkward) return;
  for (int k = 0; k < 4; ++k) check_sum("dscalars", scalars[k], sums.scalars[k], sums.size, dx.count());
  check_sum("dalpha", alpha, sums.alpha, sums.size, dx.count());
  for (std::int64_t c = 0; c < of.channels && of.affine; ++c) {
    check_sum("dscale", dscale[c], sums.scale[c], sums.size, of.positions);
    check_sum("dshift", dshift[c], sums.shift[c], sums.size, of.positions);
  }
}

void check_statistics(const Case& of, ParallelFor parallel) {
  Problem p(of);
  Array dx(p.features.count(), of.type), dm(p.m.count(), of.type);
  std::vector<float> mean(of.channels), variance(of.channels);
  float scalars[4];
  statistics({of.positions, of.channels, p.features.input(), p.m.input(), p.g, mean.data(), variance.data()}, parallel);
  statistics_backward({of.positions, of.channels, p.scale.data(), p.shift.data(), p.mean.data(), p.features.input(), p.m.input(),
                       p.g, dx.output(), dm.output(), scalars},
                      parallel);
  Naive sums;
  for (std::int64_t c = 0; c < of.channels; ++c) {
    double total = 0, squares = 0;
    for (std::int64_t i = c; i < p.m.count(); i += of.channels) total += p.features[i] * attention_map(double(p.m[i]), p.wide());
    const double exact = total / of.positions;
    for (std::int64_t i = c; i < p.m.count(); i += of.channels) {
      const double x = p.features[i];
      const MapDerivatives<double> d = map_derivatives(double(p.m[i]), p.wide());
      const double product = x * d.map, by[] = {d.by_a, d.by_mu, d.by_gamma_l, d.by_gamma_r};
      squares += (product - exact) * (product - exact);
      const double dproduct = (p.scale[c] + 2 * (product - p.mean[c]) * p.shift[c]) / of.positions;
      const double centred = std::fabs(product) + std::fabs(p.mean[c]);
      const double size = (std::fabs(p.scale[c]) + 2 * centred * std::fabs(p.shift[c])) / of.positions;
      near("statistics dfeatures", p.m[i], dx[i], dproduct * d.map, error(of, dproduct * d.map, size));
      near("statistics dm", p.m[i], dm[i], dproduct * x * d.by_m, error(of, dproduct * x * d.by_m, size * std::fabs(x)));
      for (int k = 0; k < 4; ++k) sums.scalars[k] += dproduct * x * by[k];
      sums.size = std::fmax(sums.size, size * std::fabs(x));
    }
    check_sum("mean", mean[c], exact, 4, 1);
    check_sum("variance", variance[c], squares / of.positions, 10, 1);
  }
  for (int k = 0; k < 4; ++k) check_sum("statistics dscalars", scalars[k], sums.scalars[k], sums.size, dx.count());
  dx.check_ends(), dm.check_ends();
}

std::int32_t failing(std::int64_t, std::int64_t, std::int64_t, void (*)(std::int64_t, std::int64_t, void*), void*) { return 1; }

void check_threads(Type type, std::int64_t positions) {
  const Case of = {1, positions, 72, true, true, type, false};
  Problem p(of);
  std::vector<float> results[2];
  std::vector<Array> arrays;
  for (ParallelFor parallel : {ParallelFor{nullptr}, ParallelFor{three_threads, 3}}) {
    std::vector<float>& sums = results[parallel.run != nullptr];
    sums.resize(5 + 4 * of.channels);
    Array dx(p.m.count(), type), dm(p.m.count(), type), y(p.m.count(), type), u(p.m.count(), type);
    float* const by_channel = sums.data() + 5;
    attend({1, of.positions, of.channels, p.features.input(), p.m.input(), p.g, p.alpha, p.scale.data(), p.shift.data(), p.slope,
            y.output(), u.output()},
           parallel);
    attend_backward(
        {of.positions, of.channels, p.dy.input(), p.du.input(), p.features.input(), p.m.input(), p.g, p.alpha, p.scale.data(),
         p.shift.data(), p.slope, dx.output(), dm.output(), sums.data(), sums.data() + 4, by_channel, by_channel + of.channels},
        parallel);
    statistics({of.positions, of.channels, p.features.input(), p.m.input(), p.g, by_channel + 2 * of.channels,
                by_channel + 3 * of.channels},
               parallel);
    for (const Array* x : {&dx, &dm, &y, &u}) arrays.push_back(*x);
  }
  for (int i = 0; i < 4; ++i) holds("threads change no bit of a tensor", arrays[i] == arrays[i + 4]);
  holds("threads change no bit of a sum", results[0] == results[1]);
  try {
    maps({1 << 20, p.m.input(), p.g, p.alpha, {}, {}}, failing);
    holds("a parallel loop that fails is an error", false);
  } catch (const std::runtime_error&) {
  }
}

void check_rounding() {
  const Gaussian<float> one = {1, 0, 0, 0};  // a map of 1
  const float values[] = {1.00390625f, 1.01171875f, 1.00390637f, -1.00390625f, 3.4e38f, kInfinity, -0.0f, 1e-40f};
  const float expected[] = {1, 1.015625f, 1.0078125f, -1, kInfinity, kInfinity, 0, 9.18354962e-41f};
  for (int i = 0; i < 8; ++i) {
    float x = values[i], m = 1;
    Array y(1, Type::kBfloat16);
    attend({1, 1, 1, {&x, Type::kFloat}, {&m, Type::kFloat}, one, 1, nullptr, nullptr, 1, y.output(), {}});
    near("rounding to bfloat16", x, y[0], expected[i], 0);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const bool quick = count > 1 && std::strcmp(arguments[1], "quick") == 0;
  std::printf("%s: ", kInstructionSets[instruction_set()]);
  using Counts = std::vector<std::int64_t>;
  const Counts channel_counts = quick ? Counts{1, 7, 72} : Counts{1, 3, 7, 64, 72, 300};
  const Counts position_counts = quick ? Counts{1, 33} : Counts{1, 5, 33, 257};
  for (Type type : {Type::kFloat, Type::kBfloat16}) {
    for (bool update : {false, true})
      for (bool affine : {false, true})
        for (bool awkward : {false, true})
          for (std::int64_t channels : channel_counts)
            for (std::int64_t positions : position_counts) {
              check_forward({1 + positions % 3, positions, channels, affine, update, type, awkward}, nullptr);
              const Case one = {1, positions, channels, affine, update, type, awkward};
              check_backward(one, nullptr);
              if (!awkward && affine && update) check_statistics(one, nullptr);
            }
    const Case large = {1, quick ? 4001 : 20011, 7, true, true, type, false};
    check_forward(large, three_threads), check_backward(large, three_threads), check_statistics(large, three_threads);
    check_threads(type, quick ? 501 : 3001);
  }
  check_rounding();
  return report();
}
