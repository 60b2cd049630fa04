#include "exemplar_level.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int kMostLevels = 12;
constexpr int64_t kShortest = 16;   // side of the coarsest level, at least
constexpr int64_t kFewest = 16;     // sources of a coarser level, at least
constexpr int64_t kDraws = 8;       // random matches that a target starts from
constexpr int64_t kTexture = 480;   // weight of the square of what a source's texture lacks
constexpr int64_t kKnown = 16;      // weight of a vote for each known pixel of its patch, beside 1
constexpr int64_t kGuide = 128;     // weight of the guide at the coarsest level, in 256ths; halved at each finer one
constexpr int64_t kSmallest = 200;  // distance below which no vote is worth more
constexpr int64_t kMostOffset = 64 * 4 * 16;
constexpr int64_t kTargetsOfTask = 128;

inline std::uint32_t mixed(std::uint32_t x) {  // Wellons' lowbias32
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

inline std::uint32_t key(std::uint32_t seed, int level, int round, int pass) {
  return mixed(mixed(mixed(mixed(seed) + level) + round) + pass);
}

inline int64_t clipped(int64_t value, int64_t low, int64_t high) { return most(low, least(high, value)); }
inline int64_t floored(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

template <typename Body>
inline void for_targets(const Level& level, ParallelFor parallel, Body body) {
  for_ranges(parallel, level.target_count, kTargetsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(static_cast<int64_t>(level.targets.data[i]));
  });
}

inline std::int32_t any_source(const Level& level, std::uint32_t random) {
  return level.sources.data[static_cast<std::uint64_t>(random) * level.source_count >> 32];
}

// The best match that a target has seen.
struct Best {
  Best(const Level& of_level, int64_t centre)
      : level(of_level),
        patch(level.target.data, level.weights.data, level.width, centre),
        weight(level.weight_at(centre)),
        texture(~level.texture.data[centre]) {}

  // Anything else than a source is passed over.
  void look_at(int64_t source) {
    const int64_t own = level.texture.data[source];
    if (own < 0 || source == match) return;
    const int64_t lack = most(texture - own, 0), smooth = kTexture * lack * lack;
    if (match >= 0 && smooth >= least_distance) return;
    const Difference difference = patch.from(level.guide.data, level.width, source);
    if (match >= 0 && (kMeanShare - 1) * int64_t{difference.squares} >= kMeanShare * (least_distance - smooth)) return;
    const std::uint32_t d = distance(difference, weight) + static_cast<std::uint32_t>(smooth);
    if (d >= least_distance && match >= 0) return;
    match = source;
    least_distance = d;
  }

  const Level& level;
  const Target patch;
  const int64_t weight, texture;
  int64_t match = -1;
  std::uint32_t least_distance = 0;
};

inline void start_at_random(Level& level, std::uint32_t seed, ParallelFor parallel) {
  for_targets(level, parallel, [&](int64_t t) {
    Best best(level, t);
    const std::uint32_t own = mixed(seed + static_cast<std::uint32_t>(t));
    for (int64_t draw = 0; draw < kDraws; ++draw) best.look_at(any_source(level, mixed(own + static_cast<std::uint32_t>(draw))));
    level.matches[t] = static_cast<std::int32_t>(best.match);
    level.distances.data[t] = best.least_distance;
  });
}

// One pass: the neighbours' matches of the pass before, moved along, and draws around the best, nearer and nearer. `measured`:
// the distances are those of the targets as they are.
inline void search(Level& level, std::uint32_t seed, int64_t step, int64_t radius, bool measured, ParallelFor parallel) {
  const int64_t neighbours[] = {-step, step, -step * level.width, step * level.width};
  for_targets(level, parallel, [&](int64_t t) {
    Best best(level, t);
    if (measured) {
      best.match = level.matches[t];
      best.least_distance = level.distances.data[t];
    } else {
      best.look_at(level.matches[t]);
    }
    for (const int64_t offset : neighbours) {
      const int64_t neighbour = t + offset;
      if (neighbour < 0 || neighbour >= level.pixels || level.matches[neighbour] < 0) continue;
      const int64_t source = level.matches[neighbour] - offset;
      if (source >= 0 && source < level.pixels) best.look_at(source);
    }
    const std::uint32_t own = mixed(seed + static_cast<std::uint32_t>(t));
    const std::uint32_t width = static_cast<std::uint32_t>(level.width);
    std::uint32_t draw = 0, at = 0, line = 0, column = 0;
    for (int64_t reach = radius; reach > 0; reach /= 2) {
      if (at != best.match) at = static_cast<std::uint32_t>(best.match), line = at / width, column = at % width;
      const std::uint32_t random = mixed(own + draw++);
      const int64_t y = line + ((random >> 16) * (2 * reach + 1) >> 16) - reach;
      const int64_t x = column + ((random & 0xffff) * (2 * reach + 1) >> 16) - reach;
      if (y < 0 || x < 0 || y >= level.height || x >= level.width) continue;
      best.look_at(y * level.width + x);
    }
    level.following[t] = static_cast<std::int32_t>(best.match);
    level.distances.data[t] = best.least_distance;
  });
  std::int32_t* const before = level.matches;
  level.matches = level.following;
  level.following = before;
}

inline void measure(Level& level, ParallelFor parallel) {
  for_targets(level, parallel, [&](int64_t t) {
    Best best(level, t);
    best.look_at(level.matches[t]);
    level.distances.data[t] = best.least_distance;
  });
}

inline void find_offsets(Level& level, ParallelFor parallel) {
  for_targets(level, parallel, [&](int64_t t) {
    const Target patch(level.target.data, level.weights.data, level.width, t);
    const Colours d = patch.from(level.guide.data, level.width, level.matches[t]).colours();
    for (int64_t c = 0; c < 3; ++c)
      level.offsets.data[3 * t + c] =
          static_cast<std::int16_t>(clipped(floored(16 * int64_t{d.of[c]}, level.weight_at(t)), -kMostOffset, kMostOffset));
  });
}

// vote(target, source, weight) for every patch over a pixel: its centre, the pixel that its match has there, and its weight.
template <typename Vote>
inline void for_votes(const Level& level, int64_t pixel, Vote vote) {
  const int64_t y = pixel / level.width, x = pixel % level.width;
  const int64_t top = most(y - kReach, kReach), bottom = least(y + kReach, level.height - 1 - kReach);
  const int64_t left = most(x - kReach, kReach), right = least(x + kReach, level.width - 1 - kReach);
  std::uint32_t nearest_one = 0xffffffffu;
  for (int64_t v = top; v <= bottom; ++v)
    for (int64_t u = left; u <= right; ++u) {
      const std::uint32_t d = level.distances.data[v * level.width + u];
      nearest_one = d < nearest_one ? d : nearest_one;
    }
  for (int64_t v = top; v <= bottom; ++v)
    for (int64_t u = left; u <= right; ++u) {
      const int64_t t = v * level.width + u;
      const int64_t ratio = quotient((nearest_one + kSmallest) * 256, level.distances.data[t] + kSmallest);
      const int64_t cube = ratio * ratio / 256 * ratio / 256;
      vote(t, level.matches[t] + pixel - t, most(cube, 1) * (kKnown * level.known.data[t] + 1));
    }
}

inline void vote(Level& level, ParallelFor parallel) {
  find_offsets(level, parallel);
  for_ranges(parallel, level.hole_count, kTargetsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = level.holes.data[i];
      int64_t weights = 0, sums[3] = {0, 0, 0};
      for_votes(level, p, [&](int64_t t, int64_t source, int64_t weight) {
        weights += weight;
        for (int64_t c = 0; c < 3; ++c)
          sums[c] += weight * (16 * level.guide.data[3 * source + c] + level.offsets.data[3 * t + c]);
      });
      for (int64_t c = 0; c < 3; ++c)
        level.estimate.data[3 * p + c] =
            static_cast<std::int16_t>(least((most(sums[c], 0) + 8 * weights) / (16 * weights), kScale));
    }
  });
}

inline void aim(Level& level, int64_t guide) {
  for (int64_t i = 0; i < level.hole_count; ++i)
    for (int64_t j = 3 * level.holes.data[i]; j < 3 * level.holes.data[i] + 3; ++j)
      level.target.data[j] = static_cast<std::int16_t>(
          (256 * level.estimate.data[j] + guide * level.guide.data[j] + (256 + guide) / 2) / (256 + guide));
}

// Matches and estimate from half the size.
inline void refine(const Level& coarse, Level& level, std::uint32_t seed, ParallelFor parallel) {
  for_targets(level, parallel, [&](int64_t t) {
    const int64_t y = t / level.width, x = t % level.width;
    const int64_t v = clipped(y / 2, kReach, coarse.height - 1 - kReach), u = clipped(x / 2, kReach, coarse.width - 1 - kReach);
    const int64_t centre = v * coarse.width + u, match = coarse.matches[centre] < 0 ? centre : coarse.matches[centre];
    const int64_t row = 2 * (match / coarse.width - v) + y, column = 2 * (match % coarse.width - u) + x;
    const bool inside = row >= 0 && column >= 0 && row < level.height && column < level.width;
    const bool usable = inside && level.kind.data[row * level.width + column] == kSource;
    level.matches[t] = usable ? static_cast<std::int32_t>(row * level.width + column)
                              : any_source(level, mixed(seed + static_cast<std::uint32_t>(t)));
  });
  for (int64_t i = 0; i < level.hole_count; ++i) {
    const int64_t p = level.holes.data[i], y = p / level.width, x = p % level.width;
    const int64_t above = least(y / 2, coarse.height - 1) * coarse.width + least(x / 2, coarse.width - 1);
    for (int64_t c = 0; c < 3; ++c) {
      const int64_t change = coarse.estimate.data[3 * above + c] - coarse.guide.data[3 * above + c];
      level.estimate.data[3 * p + c] = static_cast<std::int16_t>(clipped(level.guide.data[3 * p + c] + change, 0, kScale));
    }
  }
  aim(level, 0);
  measure(level, parallel);
  vote(level, parallel);
}

// The fill in full precision.
inline void compose(const Exemplar& r, Level& level, ParallelFor parallel) {
  find_offsets(level, parallel);
  for_ranges(parallel, level.hole_count, kTargetsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = level.holes.data[i];
      double weights = 0, sums[3] = {0, 0, 0};
      for_votes(level, p, [&](int64_t t, int64_t source, int64_t weight) {
        weights += static_cast<double>(weight);
        for (int64_t c = 0; c < 3; ++c)
          sums[c] += static_cast<double>(weight) *
                     (static_cast<double>(r.picture[3 * source + c]) + level.offsets.data[3 * t + c] * (1.0 / (16 * kScale)));
      });
      for (int64_t c = 0; c < 3; ++c) {
        const double value = sums[c] / weights;
        r.filled[3 * p + c] = static_cast<float>(value > 0 ? (value < 1 ? value : 1) : 0);
      }
    }
  });
}

struct Pyramid {
  ~Pyramid() {
    for (int i = 0; i < count; ++i) delete levels[i];
  }
  void drop() { delete levels[--count]; }

  Level* levels[kMostLevels];
  int count = 0;
};

// Coarser and coarser until every patch of the hole sees a known pixel, or there would be too little left to copy.
inline void build(const Exemplar& r, Pyramid& pyramid, ParallelFor parallel) {
  Level* level = pyramid.levels[pyramid.count++] = new Level(r.height, r.width);
  read_picture(r, *level, parallel);
  classify(*level, parallel);
  while (level->deep && pyramid.count < kMostLevels && least(level->height, level->width) >= 2 * kShortest) {
    Level* const coarse = pyramid.levels[pyramid.count++] = new Level(level->height / 2, level->width / 2);
    halve(*level, *coarse, parallel);
    classify(*coarse, parallel);
    if (coarse->source_count < kFewest || coarse->target_count == 0) return pyramid.drop();
    level = coarse;
  }
}

}  // namespace

void exemplar(const Exemplar& r, ParallelFor parallel) {
  std::memcpy(r.filled, r.picture, 3 * r.height * r.width * sizeof *r.filled);
  Pyramid pyramid;
  build(r, pyramid, parallel);
  Level& finest = *pyramid.levels[0];
  if (finest.source_count == 0 || finest.target_count == 0) return;
  const int coarsest = pyramid.count - 1;
  for (int i = coarsest; i >= 0; --i) {
    Level& level = *pyramid.levels[i];
    if (i == coarsest)
      start_at_random(level, key(r.seed, i, 0, 0), parallel);
    else
      refine(*pyramid.levels[i + 1], level, key(r.seed, i, 0, 0), parallel);
    const int rounds = (3 + 4 * i) * (i == coarsest ? 2 : 1), passes = static_cast<int>(least(8, 3 + 2 * i));
    const int64_t radius = i == coarsest ? most(level.height, level.width) : int64_t{16} << i;
    for (int round = 1; round <= rounds; ++round) {
      aim(level, i == 0 ? 0 : kGuide >> (coarsest - i));
      for (int pass = 0; pass < passes; ++pass)
        search(level, key(r.seed, i, round, pass), least(8, int64_t{1} << (passes - 1 - pass)), radius, pass > 0, parallel);
      if (i > 0 || round < rounds) vote(level, parallel);
    }
  }
  compose(r, finest, parallel);
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
