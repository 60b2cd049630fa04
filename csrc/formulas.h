// g_A (Eqn. 9), g_M (Eqn. 8), LeakyReLU, the attention product and their derivatives: one text for the CPU and for CUDA.
//
// All functions are free of branches, so that a compiler can vectorise the loops that call them. In float the exponential and the
// logarithm are polynomials on the CPU (relative error below 2e-7) and the device's own on CUDA; in double those of <cmath>.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LBAM_HD __host__ __device__ __forceinline__
#else
#define LBAM_HD inline __attribute__((always_inline))
#endif

namespace lbam {

// The four learned scalars of g_A.
template <typename T>
struct Gaussian {
  T a, mu, gamma_l, gamma_r;
};

namespace detail {

LBAM_HD std::int32_t bits_of(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

LBAM_HD float float_of(std::int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// exp(r) * 2^n for |r| <= ln(2) / 2, with n as the low bits of `shifted`: n + 1.5 * 2^23.
LBAM_HD float scaled_exponential(float r, float shifted) {
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1;
  p = p * r + 1;
  return p * float_of(static_cast<std::int32_t>(static_cast<std::uint32_t>(bits_of(shifted) + 127) << 23));
}

constexpr float kRound = 12582912;  // 1.5 * 2^23: adding it rounds a float to an integer

LBAM_HD float exponential(float x) {  // NaN stays NaN: each comparison with it is false
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  const bool vanishes = x < -87;
  x = vanishes ? -87 : x;
  x = x > 88 ? 88 : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float result = scaled_exponential((x - n * 0.693145751953125f) - n * 1.42860682030941723212e-6f, shifted);
  return vanishes ? 0 : result;
#endif
}

LBAM_HD float exponential_of_2(float x) {
#if defined(__CUDA_ARCH__)
  return exp2f(x);
#else
  x = x < -126 ? -126 : x;
  x = x > 127 ? 127 : x;
  const float shifted = x + kRound;
  return scaled_exponential((x - (shifted - kRound)) * 0.693147180559945309f, shifted);
#endif
}

LBAM_HD float logarithm_to_2(float x) {  // of normal positive numbers
#if defined(__CUDA_ARCH__)
  return log2f(x);
#else
  const std::int32_t bits = bits_of(x);
  const std::int32_t exponent = (bits - 0x3f3504f3) >> 23;  // so that the rest lies between sqrt(1/2) and sqrt(2)
  const float rest = float_of(bits - exponent * (1 << 23)) - 1;
  const float s = rest / (2 + rest);
  const float q = s * s;
  float p = 2.0f / 9;
  p = p * q + 2.0f / 7;
  p = p * q + 2.0f / 5;
  p = p * q + 2.0f / 3;
  return static_cast<float>(exponent) + (p * q * s + 2 * s) * 1.44269504088896341f;
#endif
}

LBAM_HD double exponential(double x) { return std::exp(x); }
LBAM_HD double exponential_of_2(double x) { return std::exp2(x); }
LBAM_HD double logarithm_to_2(double x) { return std::log2(x); }

constexpr float kLeast = 1.17549435e-38f;  // 2^-126, the smallest normal float: less counts as that

}  // namespace detail

template <typename T>
LBAM_HD T attention_map(T m, const Gaussian<T>& g) {
  const bool below = m < g.mu;
  const T distance = m - g.mu;
  const T bell = detail::exponential(-(below ? g.gamma_l : g.gamma_r) * distance * distance);
  return below ? g.a * bell : 1 + (g.a - 1) * bell;
}

template <typename T>
LBAM_HD T mask_update(T m, T alpha) {
  const T base = m > T(detail::kLeast) ? m : T(detail::kLeast);
  // The factor taken out leaves a small exponent, and so a small error of it.
  const T power = base * detail::exponential_of_2((alpha - 1) * detail::logarithm_to_2(base));
  return m > 0 ? power : T(0);
}

template <typename T>
LBAM_HD T leaky(T x, T slope) {
  return x > 0 ? x : slope * x;
}

// leaky(scale * features * g_A(m) + shift)
template <typename T>
LBAM_HD T attend(T features, T m, const Gaussian<T>& g, T scale, T shift, T slope) {
  return leaky(features * attention_map(m, g) * scale + shift, slope);
}

// g_A(m) and its derivatives.
template <typename T>
struct MapDerivatives {
  T map, by_m, by_a, by_mu, by_gamma_l, by_gamma_r;
};

template <typename T>
LBAM_HD MapDerivatives<T> map_derivatives(T m, const Gaussian<T>& g) {
  const bool below = m < g.mu;
  const T distance = m - g.mu;
  const T gamma = below ? g.gamma_l : g.gamma_r;
  const T bell = detail::exponential(-gamma * distance * distance);
  const T peak = (below ? g.a : g.a - 1) * bell;
  const T far = distance * peak;  // in this order 0 far away, where the square overflows
  const T by_m = -2 * gamma * far;
  const T fall = -distance * far;
  return {below ? peak : 1 + peak, by_m, bell, -by_m, below ? fall : T(0), below ? T(0) : fall};
}

// g_M(m) and its derivatives; 0 where m is not positive.
template <typename T>
struct UpdateDerivatives {
  T update, by_m, by_alpha;
};

template <typename T>
LBAM_HD UpdateDerivatives<T> update_derivatives(T m, T alpha) {
  const bool positive = m > 0;
  const T base = m > T(detail::kLeast) ? m : T(detail::kLeast);
  const T logarithm = detail::logarithm_to_2(base);
  const T root = detail::exponential_of_2((alpha - 1) * logarithm);
  const T power = base * root;
  return {positive ? power : T(0), positive ? alpha * root : T(0), positive ? power * logarithm * T(0.693147180559945309) : T(0)};
}

// The derivative of leaky at x, times dy.
template <typename T>
LBAM_HD T leaky_gradient(T x, T dy, T slope) {
  return x > 0 ? dy : slope * dy;
}

}  // namespace lbam
