// What networks read that correct the harmonic fill; step for step lbam_fast/reference/harmonic.py, its multigrid too.
#include "strided.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

constexpr int64_t kColours = 3;

// The colours of a pixel, filled up to four.
typedef float Quad __attribute__((vector_size(16)));

struct Run {  // of free cells in a line
  int64_t line, first, last;
};

struct Grid {
  int64_t height, width;
  Quad *x, *right;           // right: null for 0 everywhere
  const std::uint8_t* free;  // cells whose value is sought
  const Run* runs;
  int64_t count, grain;  // of runs; and how many are worth a thread

  Quad& at(int64_t line, int64_t column) const { return x[line * width + column]; }

  Quad neighbours(int64_t y, int64_t i) const {
    const Quad up = at(y > 0 ? y - 1 : 0, i), down = at(y + 1 < height ? y + 1 : y, i);
    const Quad left = at(y, i > 0 ? i - 1 : 0), next = at(y, i + 1 < width ? i + 1 : i);
    return (up + down) + (left + next);
  }
};

template <typename Body>
void for_lines(ParallelFor parallel, const Grid& grid, Body body) {
  for_ranges(parallel, grid.height, ceiling(kTask / 4, grid.width), [&](int64_t first, int64_t last) {
    for (int64_t y = first; y < last; ++y) body(y);
  });
}

template <typename Body>
void for_runs(ParallelFor parallel, const Grid& grid, Body body) {
  for_ranges(parallel, grid.count, grid.grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(grid.runs[i]);
  });
}

template <typename Body>
void for_cells(ParallelFor parallel, const Grid& grid, Body body) {
  for_runs(parallel, grid, [&](const Run& run) {
    for (int64_t i = run.first; i < run.last; ++i) body(run.line, i);
  });
}

// The runs of a grid: how many, and with `to` written there.
int64_t find_runs(const Grid& grid, Run* to) {
  int64_t count = 0;
  for (int64_t y = 0; y < grid.height; ++y) {
    const std::uint8_t* const line = grid.free + y * grid.width;
    for (int64_t i = 0; i < grid.width;) {
      if (!line[i]) {
        ++i;
        continue;
      }
      const int64_t first = i;
      while (i < grid.width && line[i]) ++i;
      if (to != nullptr) to[count] = {y, first, i};
      ++count;
    }
  }
  return count;
}

// Gauss-Seidel, the red cells and then the black ones.
void relax(ParallelFor parallel, const Grid& grid, int64_t sweeps) {
  for (int64_t colour = 0; colour < 2 * sweeps; ++colour) {
    for_runs(parallel, grid, [&](const Run& run) {
      for (int64_t i = run.first + ((run.first + run.line + colour) & 1); i < run.last; i += 2) {
        const Quad total = grid.neighbours(run.line, i);
        grid.at(run.line, i) = (grid.right == nullptr ? total : total - grid.right[run.line * grid.width + i]) * 0.25f;
      }
    });
  }
}

// The value of the coarser grid's bilinear picture at a cell.
Quad upsampled(const Grid& coarse, int64_t y, int64_t i) {
  const int64_t line = y / 2, column = i / 2;
  const int64_t other_line = y & 1 ? least(line + 1, coarse.height - 1) : most(line - 1, 0);
  const int64_t other = i & 1 ? least(column + 1, coarse.width - 1) : most(column - 1, 0);
  const Quad near = 0.75f * coarse.at(line, column) + 0.25f * coarse.at(line, other);
  const Quad far = 0.75f * coarse.at(other_line, column) + 0.25f * coarse.at(other_line, other);
  return 0.75f * near + 0.25f * far;
}

struct Steps {
  int64_t levels, sweeps, coarsest_sweeps;
};

void cycle(ParallelFor parallel, const Grid* grids, const Steps& steps, int64_t level) {
  const Grid& grid = grids[level];
  if (level == steps.levels) return relax(parallel, grid, steps.coarsest_sweeps);
  const Grid& coarse = grids[level + 1];
  relax(parallel, grid, steps.sweeps);
  const int64_t cells = coarse.height * coarse.width;
  std::memset(static_cast<void*>(coarse.x), 0, static_cast<std::size_t>(cells) * sizeof(Quad));
  for_cells(parallel, coarse, [&](int64_t y, int64_t i) {  // all four cells in it are free
    Quad sum = {};
    for (int64_t part = 0; part < 4; ++part) {
      const int64_t line = 2 * y + part / 2, column = 2 * i + part % 2;
      const Quad residual = grid.neighbours(line, column) - 4.0f * grid.at(line, column);
      sum += grid.right == nullptr ? -residual : grid.right[line * grid.width + column] - residual;
    }
    coarse.right[y * coarse.width + i] = sum;
  });
  cycle(parallel, grids, steps, level + 1);
  for_cells(parallel, grid, [&](int64_t y, int64_t i) { grid.at(y, i) += upsampled(coarse, y, i); });
  relax(parallel, grid, steps.sweeps);
}

// The means of the known cells in each four; a cell is free where none of them is known.
void halve(ParallelFor parallel, const Grid& from, const Grid& to, std::uint8_t* free) {
  for_lines(parallel, to, [&](int64_t y) {
    for (int64_t i = 0; i < to.width; ++i) {
      Quad sum = {};
      float known = 0;
      for (int64_t part = 0; part < 4; ++part) {
        const int64_t line = 2 * y + part / 2, column = 2 * i + part % 2;
        if (from.free[line * from.width + column]) continue;
        sum += from.at(line, column);
        known += 1;
      }
      free[y * to.width + i] = known == 0;
      to.at(y, i) = known == 0 ? sum : sum / known;
    }
  });
}

// A cell of a correction's grid is free where all four cells in it are.
void narrow(ParallelFor parallel, const Grid& from, const Grid& to, std::uint8_t* free) {
  for_lines(parallel, to, [&](int64_t y) {
    for (int64_t i = 0; i < to.width; ++i) {
      const std::uint8_t* const pair = from.free + 2 * y * from.width + 2 * i;
      free[y * to.width + i] = pair[0] && pair[1] && pair[from.width] && pair[from.width + 1];
    }
  });
}

void fill_coarsest(ParallelFor parallel, const Grid& grid, int64_t sweeps) {
  Quad sum = {};
  float known = 0;
  for (int64_t cell = 0; cell < grid.height * grid.width; ++cell) {
    if (grid.free[cell]) continue;
    sum += grid.x[cell];
    known += 1;
  }
  const Quad mean = known == 0 ? sum : sum / known;
  for_cells(parallel, grid, [&](int64_t y, int64_t i) { grid.at(y, i) = mean; });
  relax(parallel, grid, sweeps);
}

// Memory for the grids of one picture.
struct Memory {
  explicit Memory(int64_t cells) : values(8 * cells + 4), free(cells), runs(cells / 2 + cells / 8 + 64) {}

  Quad* quads() const {  // on a boundary of a Quad
    return reinterpret_cast<Quad*>((reinterpret_cast<std::uintptr_t>(values.data) + 15) / 16 * 16);
  }

  Scratch<float> values;
  Scratch<std::uint8_t> free;
  Scratch<Run> runs;
};

// What the known pixels of a line differ from the trend, and which pixels are free.
void load(const CorrectionInput& r, int64_t image, int64_t line, Quad* x, std::uint8_t* free) {
  const int64_t width = r.size.width;
  const Scratch<float> buffers(2 * width);
  for (int64_t i = 0; i < width; ++i) {
    x[i] = Quad{};
    free[i] = 0;
  }
  for (int64_t c = 0; c < r.mask.channels; ++c) {
    const float* const known = line_of(r.mask, image, c, line, width, buffers.data);
    for (int64_t i = 0; i < width; ++i) free[i] |= !(known[i] > 0);
  }
  for (int64_t c = 0; c < kColours; ++c) {
    const float* const from = line_of(r.image, image, c, line, width, buffers.data);
    const float* const trend = line_of(r.trend, image, c, line, width, buffers.data + width);
    for (int64_t i = 0; i < width; ++i) x[i][c] = free[i] ? 0 : from[i] - trend[i];
  }
}

void save(const CorrectionInput& r, int64_t image, int64_t line, const Quad* rest, const std::uint8_t* free) {
  const int64_t width = r.size.width, begin = (image * r.size.height + line) * width;
  const Scratch<float> buffers(10 * width);
  float* const x = place(r.x, 2 * kColours * begin, buffers.data);
  float* const base = place(r.base, kColours * begin, buffers.data + 6 * width);
  for (int64_t c = 0; c < kColours; ++c) {
    const float* const trend = line_of(r.trend, image, c, line, width, buffers.data + 9 * width);
    for (int64_t i = 0; i < width; ++i) {
      const float value = rest[i][c], scaled = r.contrast * value;
      x[2 * kColours * i + c] = free[i] ? 0 : scaled;
      x[2 * kColours * i + kColours + c] = free[i] ? scaled : 0;
      base[kColours * i + c] = trend[i] + value;
    }
  }
  write(r.x, 2 * kColours * begin, 2 * kColours * width, x);
  write(r.base, kColours * begin, kColours * width, base);
}

}  // namespace

void correction_input(const CorrectionInput& r, ParallelFor parallel) {
  constexpr int64_t kMostLevels = 31;
  const int64_t levels = least(r.levels, kMostLevels), pixels = r.size.height * r.size.width;
  int64_t cells = 0;
  for (int64_t level = 0; level <= levels; ++level) cells += pixels >> 2 * level;
  const Memory memory(cells);
  Grid grids[kMostLevels + 1];
  Run* const runs_end = memory.runs.data;

  // The free cells of every grid are written by `halve` and then by `narrow` to the same place.
  for (int64_t level = 0, begin = 0; level <= levels; ++level) {
    Grid& grid = grids[level];
    grid = {
        r.size.height >> level, r.size.width >> level, memory.quads() + begin, nullptr, memory.free.data + begin, nullptr, 0, 1};
    begin += grid.height * grid.width;
  }
  const auto free_of = [&](const Grid& grid) { return const_cast<std::uint8_t*>(grid.free); };
  const auto with_runs = [&](Grid& grid, Run* to) {
    grid.runs = to;
    grid.count = find_runs(grid, to);
    int64_t free = 0;
    for (int64_t i = 0; i < grid.count; ++i) free += to[i].last - to[i].first;
    grid.grain = most(1, kTask / 8 * grid.count / most(free, 1));
    return to + grid.count;
  };

  for (int64_t image = 0; image < r.size.images; ++image) {
    const Grid& finest = grids[0];
    for_lines(parallel, finest, [&](int64_t y) { load(r, image, y, &finest.at(y, 0), free_of(finest) + y * finest.width); });
    Run* end = with_runs(grids[0], runs_end);
    for (int64_t level = 1; level <= levels; ++level) {
      halve(parallel, grids[level - 1], grids[level], free_of(grids[level]));
      end = with_runs(grids[level], end);
    }
    for (Grid& grid : grids) grid.right = nullptr;
    fill_coarsest(parallel, grids[levels], r.coarsest_sweeps);
    for (int64_t level = levels - 1; level >= 0; --level) {
      const Grid &grid = grids[level], &coarse = grids[level + 1];
      for_cells(parallel, grid, [&](int64_t y, int64_t i) { grid.at(y, i) = upsampled(coarse, y, i); });
      relax(parallel, grid, r.first_sweeps);
    }
    end = grids[0].count + runs_end;
    for (int64_t level = 1; level <= levels; ++level) {
      Grid& grid = grids[level];
      narrow(parallel, grids[level - 1], grid, free_of(grid));
      end = with_runs(grid, end);
      grid.right = grid.x + cells;
    }
    for (int64_t i = 0; i < r.cycles; ++i) cycle(parallel, grids, {levels, r.sweeps, r.coarsest_sweeps}, 0);
    for_lines(parallel, finest, [&](int64_t y) { save(r, image, y, &finest.at(y, 0), finest.free + y * finest.width); });
  }
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
