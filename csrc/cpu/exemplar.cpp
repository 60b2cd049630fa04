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

// Draws around a match, which are looked at in order: a vector of them.
constexpr int kDrawn = 8;

struct Draws {
  std::int32_t places[kDrawn], smooth[kDrawn];
  std::uint32_t wanted;  // a bit for each that may be nearer than the match
};

// The best match that a target has seen.
struct Best {
  Best(const Level& of_level, int64_t centre)
      : level(of_level),
        patch(level.target.data, level.weights.data, level.width, centre),
        weight(level.weight_at(centre)),
        texture(~level.texture.data[centre]) {}

  // Anything else than a source is passed over.
  void look_at(int64_t place) {
    const int64_t own = level.texture.data[place];
    if (own < 0 || place == match) return;
    const int64_t lack = most(texture - own, 0), smooth = kTexture * lack * lack;
    if (smooth < least_distance) take_if_nearer(place, smooth);
  }

  // Finds which are wanted: other sources that do not lack too much texture.
  void sift(Draws& draws) const {
    std::int32_t own[kDrawn], wanted[kDrawn], all = 0;
    for (int i = 0; i < kDrawn; ++i) own[i] = level.texture.data[draws.places[i]];
    const std::int32_t sought = static_cast<std::int32_t>(texture), passed_over = static_cast<std::int32_t>(match);
    for (int i = 0; i < kDrawn; ++i) {
      const std::int32_t lack = sought > own[i] ? sought - own[i] : 0;
      draws.smooth[i] = static_cast<std::int32_t>(kTexture) * lack * lack;
      const bool nearer = static_cast<std::uint32_t>(draws.smooth[i]) < least_distance;
      wanted[i] = (own[i] >= 0) & (draws.places[i] != passed_over) & nearer ? 1 << i : 0;
    }
    for (int i = 0; i < kDrawn; ++i) all |= wanted[i];
    draws.wanted = static_cast<std::uint32_t>(all);
  }

  // Looks at those that are wanted, up to the first that is nearer; how many draws that were. Few are, so most need their squares
  // alone.
  int look_at(const Draws& draws) {
    for (std::uint32_t left = draws.wanted; left != 0; left &= left - 1) {
      const int i = __builtin_ctz(left);
      const std::int32_t squares = patch.squares_from(level.guide.data, level.width, draws.places[i]);
      if (may_be_nearer(squares, draws.smooth[i]) && take_if_nearer(draws.places[i], draws.smooth[i])) return i + 1;
    }
    return kDrawn;
  }

  // By what a distance is at least.
  bool may_be_nearer(std::int32_t squares, int64_t smooth) const {
    return (kMeanShare - 1) * int64_t{squares} < kMeanShare * (least_distance - smooth);
  }

  bool take_if_nearer(int64_t place, int64_t smooth) {
    const Difference difference = patch.from(level.guide.data, level.width, place);
    if (!may_be_nearer(difference.squares, smooth)) return false;
    const std::uint32_t d = distance(difference, weight) + static_cast<std::uint32_t>(smooth);
    if (d >= least_distance) return false;
    match = place;
    least_distance = d;
    return true;
  }

  const Level& level;
  const Target patch;
  const int64_t weight, texture;
  int64_t match = -1;
  std::uint32_t least_distance = 0xffffffffu;
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

// Draws around a match, nearer and nearer: within the radius halved `halvings` times, and so on; the match itself for what leaves
// the picture, and once nothing is left of the radius.
inline void look_around(const Level& level, int64_t match, std::uint32_t seed, std::int32_t radius, int halvings, Draws& draws) {
  const std::int32_t width = static_cast<std::int32_t>(level.width), height = static_cast<std::int32_t>(level.height);
  const std::int32_t at = static_cast<std::int32_t>(match), line = at / width, column = at % width;
  for (int i = 0; i < kDrawn; ++i) {
    const std::int32_t reach = radius >> (halvings + i);
    const std::uint32_t random = mixed(seed + static_cast<std::uint32_t>(halvings + i));
    const std::uint32_t span = static_cast<std::uint32_t>(2 * reach + 1);
    const std::int32_t y = line + static_cast<std::int32_t>(std::uint64_t{random >> 16} * span >> 16) - reach;
    const std::int32_t x = column + static_cast<std::int32_t>(std::uint64_t{random & 0xffff} * span >> 16) - reach;
    const bool inside = (y >= 0) & (x >= 0) & (y < height) & (x < width);
    draws.places[i] = inside ? y * width + x : at;
  }
}

// One pass: the neighbours' matches of the pass before, and draws around the best. `measured`: the distances are those of the
// targets as they are.
inline void search(Level& level, std::uint32_t seed, int64_t step, std::int32_t radius, bool measured, ParallelFor parallel) {
  const int64_t neighbours[] = {-step, step, -step * level.width, step * level.width};
  int count = 0;
  while (radius >> count != 0) ++count;
  for_targets(level, parallel, [&](int64_t t) {
    Best best(level, t);
    if (measured) {
      best.match = level.matches[t];
      best.least_distance = level.distances.data[t];
    } else {
      best.look_at(level.matches[t]);
    }
    const std::uint32_t own = mixed(seed + static_cast<std::uint32_t>(t));
    // Drawn before the neighbours are looked at, which seldom changes the match: meanwhile memory brings what sift() asks for.
    const int64_t before = best.match;
    Draws draws;
    look_around(level, before, own, radius, 0, draws);
    best.sift(draws);
    for (const int64_t offset : neighbours) {
      const int64_t neighbour = t + offset;
      if (neighbour < 0 || neighbour >= level.pixels || level.matches[neighbour] < 0) continue;
      const int64_t source = level.matches[neighbour] - offset;
      if (source >= 0 && source < level.pixels) best.look_at(source);
    }
    for (int done = 0; done < count;) {
      if (done > 0 || best.match != before) {
        look_around(level, best.match, own, radius, done, draws);
        best.sift(draws);
      }
      done += best.look_at(draws);
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

// The patches over a pixel: their centres, the pixels that their matches have there, and their weights.
struct Votes {
  Votes(const Level& level, int64_t pixel) {
    const int64_t y = pixel / level.width, x = pixel % level.width;
    const int64_t top = most(y - kReach, kReach), bottom = least(y + kReach, level.height - 1 - kReach);
    const int64_t left = most(x - kReach, kReach), right = least(x + kReach, level.width - 1 - kReach);
    std::int32_t distances[kArea] = {};
    std::int32_t known[kArea] = {};
    for (int64_t v = top; v <= bottom; ++v)
      for (int64_t t = v * level.width + left; t <= v * level.width + right; ++t, ++count) {
        targets[count] = static_cast<std::int32_t>(t);
        sources[count] = static_cast<std::int32_t>(level.matches[t] + pixel - t);
        distances[count] = static_cast<std::int32_t>(level.distances.data[t]);
        known[count] = level.known.data[t];
      }
    std::int32_t nearest_one = distances[0];
    for (int i = 0; i < count; ++i) nearest_one = distances[i] < nearest_one ? distances[i] : nearest_one;
    for (int i = count; i < kArea; ++i) distances[i] = nearest_one;  // so that the ratios of a whole vector are up to 256
    const double dividend = static_cast<double>((int64_t{nearest_one} + kSmallest) * 256);  // as in quotient()
    for (int i = 0; i < kArea; ++i) {
      const std::int32_t ratio =
          static_cast<std::int32_t>(dividend / (static_cast<double>(distances[i]) + static_cast<double>(kSmallest)));
      const std::int32_t cube = (ratio * ratio >> 8) * ratio >> 8;
      weights[i] = (cube > 1 ? cube : 1) * (static_cast<std::int32_t>(kKnown) * known[i] + 1);
    }
  }

  int count = 0;
  std::int32_t targets[kArea], sources[kArea], weights[kArea];
};

inline void vote(Level& level, ParallelFor parallel) {
  find_offsets(level, parallel);
  for_ranges(parallel, level.hole_count, kTargetsOfTask, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = level.holes.data[i];
      const Votes votes(level, p);
      int64_t weights = 0, sums[3] = {0, 0, 0};
      for (int k = 0; k < votes.count; ++k) {
        const std::int16_t* const guide = level.guide.data + 3 * int64_t{votes.sources[k]};
        const std::int16_t* const offsets = level.offsets.data + 3 * int64_t{votes.targets[k]};
        weights += votes.weights[k];
        for (int c = 0; c < 3; ++c) sums[c] += int64_t{votes.weights[k]} * (16 * guide[c] + offsets[c]);
      }
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
      const Votes votes(level, p);
      for (int k = 0; k < votes.count; ++k) {
        const float* const source = r.picture + 3 * int64_t{votes.sources[k]};
        const std::int16_t* const offsets = level.offsets.data + 3 * int64_t{votes.targets[k]};
        const double weight = votes.weights[k];
        weights += weight;
        for (int c = 0; c < 3; ++c) sums[c] += weight * (static_cast<double>(source[c]) + offsets[c] * (1.0 / (16 * kScale)));
      }
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
    const std::int32_t radius = static_cast<std::int32_t>(i == coarsest ? most(level.height, level.width) : int64_t{16} << i);
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
