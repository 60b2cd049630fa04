#include "epilogue.h"
#include "windows.h"
#include "winograd.h"

namespace lbam::cpu::LBAM_INSTRUCTION_SET {
namespace {

// One phase of the result, every second line and column, in tiles.
template <typename Element, typename Stored, typename Finish>
void multiply_phase(const Decode& r, int64_t phase, ParallelFor parallel, Finish finish) {
  const int64_t lines = r.size.height, columns = r.size.width, down = phase / 2, right = phase % 2;
  const int64_t part = (r.skip_channels + r.own_channels) * packed_columns(r.outputs);
  const void* weight = static_cast<const Element*>(r.weight.data) + phase * kProducts * part;
  const Plane<Stored> skip = {static_cast<const Stored*>(r.skip.data), r.skip_channels, down - 1, right - 1};
  const Plane<Stored> own = {static_cast<const Stored*>(r.own.data), r.own_channels, down - 1, right - 1};
  const bool alone = r.skip.data == nullptr;
  multiply_tiles<Element>(Tiles<Stored>{lines / 2,
                                        columns / 2,
                                        nullptr,
                                        r.size.images * lines * columns / 4,
                                        lines,
                                        columns,
                                        1,
                                        r.outputs,
                                        {alone ? own : skip, own},
                                        alone ? 1 : 2,
                                        weight},
                          parallel, [&](const Place& at, int64_t column, int64_t count, const float* c) {
                            finish(Place{at.image, 2 * at.line + down, 2 * at.column + right}, column, count, c);
                          });
}

}  // namespace

void decode(const Decode& r, ParallelFor parallel) {
  const int64_t width = 2 * r.size.width, area = 2 * r.size.height * width;
  const auto finish = [&](const Place& at, int64_t column, int64_t count, const float* c) {
    float buffers[2 * kMostColumns];
    const int64_t inside = at.line * width + at.column, position = at.image * area + inside;
    for (int64_t begin = 0; begin < count; begin += kMostColumns)
      activated(c + begin, least(count - begin, kMostColumns), r.map,
                (r.maps == 1 ? inside : position) * r.outputs + column + begin, r.scale, r.shift, column + begin, r.slope, r.y,
                position * r.outputs + column + begin, buffers);
  };
  with_types(r.own.type, r.weight.type, [&](auto stored, auto element) {
    using Stored = decltype(stored);
    using Element = decltype(element);
    if (!r.winograd) {
      return multiply_windows<Element>(source<Stored>(r.skip, r.size, r.skip_channels, 2),
                                       source<Stored>(r.own, r.size, r.own_channels, 2), r.size, r.outputs, r.weight.data,
                                       parallel, finish);
    }
    for (int64_t phase = 0; phase < 4; ++phase) multiply_phase<Element, Stored>(r, phase, parallel, finish);
  });
}

}  // namespace lbam::cpu::LBAM_INSTRUCTION_SET
