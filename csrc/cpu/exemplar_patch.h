// The distance of two patches of 5x5 pixels in three colours, in whole numbers.
#pragma once

#include "vectors.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kReach = 2, kSide = 2 * kReach + 1, kArea = kSide * kSide;
constexpr int64_t kSlack = 16;     // elements that a row of a patch may be read beyond the picture's end
constexpr int64_t kTrust = 4;      // weight of a known pixel beside one of the hole
constexpr int64_t kMeanShare = 4;  // a difference of the means counts by 1 - 1/kMeanShare

// Sums of each of the three colours.
struct Colours {
  std::int32_t of[3];
};

#if defined(__AVX2__)

using Row = __m256i;  // the 15 values of five pixels, and one that counts nothing

inline std::int32_t sum_of(Row x) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Weighted sums over a patch of target - source: of the squares, and of each colour, which most have no use for.
struct Difference {
  Colours colours() const {
    const Row red = _mm256_madd_epi16(columns, _mm256_setr_epi16(1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0));
    const Row green = _mm256_madd_epi16(columns, _mm256_setr_epi16(0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0));
    const Row blue = _mm256_madd_epi16(columns, _mm256_setr_epi16(0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0));
    return {{sum_of(red), sum_of(green), sum_of(blue)}};
  }

  std::int32_t squares;
  Row columns;
};

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
    return {sum_of(squares), sum};
  }

  std::int32_t squares_from(const std::int16_t* picture, int64_t width, int64_t centre) const {
    Row squares = _mm256_setzero_si256();
    for (int64_t k = 0; k < kSide; ++k) {
      const Row d = _mm256_sub_epi16(values[k], row_at(picture + 3 * (centre + (k - kReach) * width - kReach)));
      squares = _mm256_add_epi32(squares, _mm256_madd_epi16(d, _mm256_mullo_epi16(d, weight[k])));
    }
    return sum_of(squares);
  }

  Row values[kSide], weight[kSide];
};

#else

struct Difference {
  Colours colours() const {
    Colours result{};
    for (int64_t j = 0; j < 3 * kSide; ++j) result.of[j % 3] += columns[j];
    return result;
  }

  std::int32_t squares, columns[3 * kSide];
};

struct Target {
  Target(const std::int16_t* picture, const std::int16_t* weights, int64_t width, int64_t centre) {
    for (int64_t k = 0; k < kSide; ++k) {
      const int64_t at = 3 * (centre + (k - kReach) * width - kReach);
      std::memcpy(values[k], picture + at, sizeof values[k]);
      std::memcpy(weight[k], weights + at, sizeof weight[k]);
    }
  }

  Difference from(const std::int16_t* picture, int64_t width, int64_t centre) const {
    Difference result{};
    for (int64_t k = 0; k < kSide; ++k) {
      const std::int16_t* const source = picture + 3 * (centre + (k - kReach) * width - kReach);
      for (int64_t j = 0; j < 3 * kSide; ++j) {
        const std::int32_t d = values[k][j] - source[j], weighted = d * weight[k][j];
        result.columns[j] += weighted;
        result.squares += d * weighted;
      }
    }
    return result;
  }

  std::int32_t squares_from(const std::int16_t* picture, int64_t width, int64_t centre) const {
    return from(picture, width, centre).squares;
  }

  std::int16_t values[kSide][3 * kSide], weight[kSide][3 * kSide];
};

#endif

// a / b rounded down, of whole numbers below 2^42 and 2^33 that are not negative: in double, which rounds no fraction up to 1, as
// whole numbers of 64 bits divide slowly.
inline int64_t quotient(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<double>(a) / static_cast<double>(b)); }

// `weight`: the sum of the target's, over its pixels. At least (1 - 1/kMeanShare) of the squares.
inline std::uint32_t distance(const Difference& d, int64_t weight) {
  int64_t means = 0;
  for (const int64_t sum : d.colours().of) means += sum * sum;
  return static_cast<std::uint32_t>(d.squares - quotient(means, kMeanShare * weight));
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
