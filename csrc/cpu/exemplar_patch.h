// The distance of two patches of 5x5 pixels in three colours, in whole numbers.
#pragma once

#include "vectors.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kReach = 2, kSide = 2 * kReach + 1, kArea = kSide * kSide;
constexpr int64_t kSlack = 16;     // elements that a row of a patch may be read beyond the picture's end
constexpr int64_t kTrust = 4;      // weight of a known pixel beside one of the hole
constexpr int64_t kMeanShare = 4;  // a difference of the means counts by 1 - 1/kMeanShare

// Weighted sums over a patch of target - source: of the squares, and of each colour.
struct Difference {
  std::int32_t squares, colours[3];
};

#if defined(__AVX2__)

using Row = __m256i;  // the 15 values of five pixels, and one that counts nothing

inline Row row_at(const std::int16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

struct Target {
  Target(const std::int16_t* picture, const std::int16_t* weights, int64_t width, int64_t centre) {
    const Row counted = _mm256_setr_epi16(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0);
    for (int64_t k = 0; k < kSide; ++k) {
      const int64_t at = 3 * (centre + (k - kReach) * width - kReach);
      values[k] = row_at(picture + at);
      weight[k] = _mm256_and_si256(row_at(weights + at), counted);
    }
  }

  Difference from(const std::int16_t* picture, int64_t width, int64_t centre) const {
    Row squares = _mm256_setzero_si256(), sum = squares;
    for (int64_t k = 0; k < kSide; ++k) {
      const Row d = _mm256_sub_epi16(values[k], row_at(picture + 3 * (centre + (k - kReach) * width - kReach)));
      const Row weighted = _mm256_mullo_epi16(d, weight[k]);
      sum = _mm256_add_epi16(sum, weighted);
      squares = _mm256_add_epi32(squares, _mm256_madd_epi16(d, weighted));
    }
    const Row red = _mm256_madd_epi16(sum, _mm256_setr_epi16(1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0));
    const Row green = _mm256_madd_epi16(sum, _mm256_setr_epi16(0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0));
    const Row blue = _mm256_madd_epi16(sum, _mm256_setr_epi16(0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0));
    const Row all = _mm256_hadd_epi32(_mm256_hadd_epi32(squares, red), _mm256_hadd_epi32(green, blue));
    Difference result;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(&result),
                     _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
    return result;
  }

  Row values[kSide], weight[kSide];
};

#else

struct Target {
  Target(const std::int16_t* picture, const std::int16_t* weights, int64_t width, int64_t centre) {
    for (int64_t k = 0; k < kSide; ++k) {
      const int64_t at = 3 * (centre + (k - kReach) * width - kReach);
      std::memcpy(values[k], picture + at, sizeof values[k]);
      std::memcpy(weight[k], weights + at, sizeof weight[k]);
    }
  }

  Difference from(const std::int16_t* picture, int64_t width, int64_t centre) const {
    std::int32_t squares = 0, sums[3 * kSide] = {};
    for (int64_t k = 0; k < kSide; ++k) {
      const std::int16_t* const source = picture + 3 * (centre + (k - kReach) * width - kReach);
      for (int64_t j = 0; j < 3 * kSide; ++j) {
        const std::int32_t d = values[k][j] - source[j], weighted = d * weight[k][j];
        sums[j] += weighted;
        squares += d * weighted;
      }
    }
    Difference result{squares, {0, 0, 0}};
    for (int64_t j = 0; j < 3 * kSide; ++j) result.colours[j % 3] += sums[j];
    return result;
  }

  std::int16_t values[kSide][3 * kSide], weight[kSide][3 * kSide];
};

#endif

// `weight`: the sum of the target's, over its pixels.
inline std::uint32_t distance(const Difference& d, int64_t weight) {
  int64_t means = 0;
  for (const int64_t sum : d.colours) means += sum * sum;
  return static_cast<std::uint32_t>(d.squares - means / (kMeanShare * weight));
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
