// One level of the pyramid of the kernel `exemplar`: its picture in whole numbers, and which patches are what.
#pragma once

#include "exemplar_patch.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int kScale = 4 * 255;      // of a colour of 1
constexpr int64_t kNearby = 6;       // pixels from a target in which sources say what texture it is to have
constexpr int64_t kEnough = 12;      // sources that say so
constexpr int kKnownHalved = 4;      // weight of a known pixel beside one of the hole in a pixel of half the size
constexpr int64_t kRowsOfTask = 32;  // rows of a picture for which a thread is worth its start, about

enum Kind : std::uint8_t { kOutside, kSource, kTarget };  // of the patch around a pixel: leaves the picture, is known, has hole

struct Level {
  Level(int64_t of_height, int64_t of_width)
      : height(of_height),
        width(of_width),
        pixels(of_height * of_width),
        hole(pixels),
        kind(pixels),
        known(pixels),
        guide(3 * pixels + kSlack),
        estimate(3 * pixels + kSlack),
        target(3 * pixels + kSlack),
        weights(3 * pixels + kSlack),
        sources(pixels),
        targets(pixels),
        holes(pixels),
        match(pixels),
        next(pixels),
        distances(pixels),
        offsets(3 * pixels),
        texture(pixels) {}

  const int64_t height, width, pixels;
  const Scratch<std::uint8_t> hole, kind, known;                 // known: pixels of the patch around
  const Scratch<std::int16_t> guide, estimate, target, weights;  // [pixels, 3]
  const Scratch<std::int32_t> sources, targets, holes;           // positions, in order
  int64_t source_count = 0, target_count = 0, hole_count = 0;
  bool deep = false;  // whether a patch has no known pixel
  // Of the targets. A match is the centre of a source; the offsets are what its colours lack, in sixteenths.
  const Scratch<std::int32_t> match, next;
  std::int32_t *matches = match.data, *following = next.data;
  const Scratch<std::uint32_t> distances;
  const Scratch<std::int16_t> offsets;  // [pixels, 3]
  const Scratch<std::int16_t> texture;  // of a source's patch; what a target's is to have, as ~texture; else below 0

  int64_t weight_at(int64_t centre) const { return kArea + (kTrust - 1) * known.data[centre]; }
};

// Sums over boxes of a picture.
struct Boxes {
  Boxes(int64_t of_height, int64_t of_width) : height(of_height), width(of_width), sums((of_height + 1) * (of_width + 1)) {}

  void add(int64_t y, int64_t x, int64_t value) const {  // line by line
    int64_t* const at = sums.data + (y + 1) * (width + 1) + x + 1;
    *at = value + at[-1] + at[-width - 1] - at[-width - 2];
  }

  int64_t around(int64_t y, int64_t x, int64_t reach) const {
    const int64_t top = most(y - reach, 0), bottom = least(y + reach, height - 1) + 1;
    const int64_t left = most(x - reach, 0), right = least(x + reach, width - 1) + 1;
    const int64_t *const low = sums.data + top * (width + 1), *const high = sums.data + bottom * (width + 1);
    return high[right] - low[right] - high[left] + low[left];
  }

  const int64_t height, width;
  const Scratch<int64_t> sums;
};

inline int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// A patch's texture is the mean difference between neighbouring pixels. A target's is to be that of the sources around it, of the
// smallest box that has enough of them.
inline void find_texture(const Level& level) {
  const int64_t height = level.height, width = level.width;
  const Boxes steps(height, width), textures(height, width), counts(height, width);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const int64_t p = y * width + x, right = x + 1 < width ? p + 1 : p, below = y + 1 < height ? p + width : p;
      int64_t sum = 0;
      for (int64_t c = 0; c < 3; ++c) {
        const int64_t own = level.guide.data[3 * p + c];
        sum += magnitude(level.guide.data[3 * right + c] - own) + magnitude(level.guide.data[3 * below + c] - own);
      }
      steps.add(y, x, sum);
    }
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const int64_t p = y * width + x;
      const bool source = level.kind.data[p] == kSource;
      // Steps within the patch alone: to the right and down from all of its pixels but the last ones.
      const int64_t own = source ? steps.around(y, x, kReach - 1) / (6 * (kSide - 2) * (kSide - 2)) : 0;
      level.texture.data[p] = source ? static_cast<std::int16_t>(own) : std::int16_t{-1};
      textures.add(y, x, own);
      counts.add(y, x, source);
    }
  for (int64_t i = 0; i < level.target_count; ++i) {
    const int64_t t = level.targets.data[i], y = t / width, x = t % width;
    int64_t reach = kNearby, count = 0;
    while ((count = counts.around(y, x, reach)) < kEnough && reach < height + width) reach *= 2;
    level.texture.data[t] = static_cast<std::int16_t>(~(count == 0 ? 0 : textures.around(y, x, reach) / count));
  }
}

// Everything that follows from `guide` and `hole`.
inline void classify(Level& level, ParallelFor parallel) {
  const int64_t height = level.height, width = level.width;
  for_ranges(parallel, height, kRowsOfTask, [&](int64_t first, int64_t last) {
    const Scratch<std::uint8_t> columns(width);
    for (int64_t y = first; y < last; ++y) {
      const bool inside = y >= kReach && y < height - kReach;
      if (inside)
        for (int64_t x = 0; x < width; ++x) {
          const std::uint8_t* const middle = level.hole.data + y * width + x;
          columns.data[x] = middle[-2 * width] + middle[-width] + middle[0] + middle[width] + middle[2 * width];
        }
      for (int64_t x = 0; x < width; ++x) {
        const int64_t p = y * width + x;
        for (int64_t c = 0; c < 3; ++c) level.weights.data[3 * p + c] = level.hole.data[p] ? 1 : kTrust;
        level.matches[p] = level.following[p] = -1;
        if (!inside || x < kReach || x >= width - kReach) continue;
        int holes = 0;
        for (int64_t k = x - kReach; k <= x + kReach; ++k) holes += columns.data[k];
        level.kind.data[p] = holes == 0 ? kSource : kTarget;
        level.known.data[p] = static_cast<std::uint8_t>(kArea - holes);
      }
    }
  });
  std::memcpy(level.estimate.data, level.guide.data, 3 * level.pixels * sizeof *level.guide.data);
  std::memcpy(level.target.data, level.guide.data, 3 * level.pixels * sizeof *level.guide.data);
  for (int64_t p = 0; p < level.pixels; ++p) {
    const std::int32_t position = static_cast<std::int32_t>(p);
    if (level.hole.data[p]) level.holes.data[level.hole_count++] = position;
    if (level.kind.data[p] == kSource) level.sources.data[level.source_count++] = position;
    if (level.kind.data[p] != kTarget) continue;
    level.targets.data[level.target_count++] = position;
    level.deep = level.deep || level.known.data[p] == 0;
  }
  find_texture(level);
}

inline std::int16_t quantised(float value) {
  const double clipped = value > 0 ? (value < 1 ? value : 1) : 0;  // in double, where no step rounds
  return static_cast<std::int16_t>(clipped * kScale + 0.5);
}

inline void read_picture(const Exemplar& r, Level& level, ParallelFor parallel) {
  for_ranges(parallel, level.height, kRowsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t i = 3 * first * level.width; i < 3 * last * level.width; ++i) level.guide.data[i] = quantised(r.picture[i]);
    for (int64_t p = first * level.width; p < last * level.width; ++p) level.hole.data[p] = r.hole[p] != 0;
  });
}

// A pixel of half the size is the mean of sixteen, nearer ones and known ones counting more; hole where none is known.
inline void halve(const Level& fine, Level& coarse, ParallelFor parallel) {
  constexpr int kernel[] = {1, 3, 3, 1};
  for_ranges(parallel, coarse.height, kRowsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t p = first * coarse.width; p < last * coarse.width; ++p) {
      const int64_t top = 2 * (p / coarse.width) - 1, left = 2 * (p % coarse.width) - 1;
      int weights = 0, sums[3] = {0, 0, 0};
      bool known = false;
      for (int64_t y = most(top, 0); y < least(top + 4, fine.height); ++y)
        for (int64_t x = most(left, 0); x < least(left + 4, fine.width); ++x) {
          const int64_t q = y * fine.width + x;
          const int weight = kernel[y - top] * kernel[x - left] * (fine.hole.data[q] ? 1 : kKnownHalved);
          known = known || !fine.hole.data[q];
          weights += weight;
          for (int64_t c = 0; c < 3; ++c) sums[c] += weight * fine.guide.data[3 * q + c];
        }
      coarse.hole.data[p] = !known;
      for (int64_t c = 0; c < 3; ++c) coarse.guide.data[3 * p + c] = static_cast<std::int16_t>((sums[c] + weights / 2) / weights);
    }
  });
}

}  // namespace
}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
