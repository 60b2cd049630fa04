// Requests of the layers that are convolutions; a part of lbam_cpu.h. Pictures are NHWC without gaps; what is computed, and by
// whom the arguments are named, is said in lbam_fast/ops/eager.py.
#pragma once

#include <cstdint>

namespace lbam::cpu {

// Filters as `pack` leaves them. Their elements are those of the products: bfloat16 needs bfloat16_products.
using Panels = Input;

// One or two pictures of the same height and width, each with its channels.
struct Sizes {
  std::int64_t images, height, width;
};

// The 4x4 taps of a filter, in steps of elements.
struct StridedFilter {
  const float* data;
  std::int64_t channels, channel_step, output_step, line_step, column_step;
};

// One filter in the layout that `encode_with_map` and `mask_step` read, or `transposed`, of one or two, in that of `decode_with_map` and
// `reconstruct`: as taps, or as winograd.h has them for tiles of `tile` results a side:
// 2 or, not transposed, 3.
struct Pack {
  bool transposed;
  std::int64_t tile, outputs;
  StridedFilter filters[2];
  int count;
  Output panels;
};

// The gradient of a 4x4 filter of stride 2 from both ends of its layer, by Winograd: for even numbers of lines and columns of
// `small`.
struct FilterGradient {
  Sizes size;  // of large
  std::int64_t small_channels, large_channels;
  // [images, height / 2, width / 2, small_channels]: the gradient of a convolution's result, or a transposed one's input.
  const float* small;
  // [images, height, width, large_channels]: a convolution's input, or the gradient of a transposed one's result.
  const float* large;
  float* gradient;  // of both channels and the taps, in these steps of elements
  std::int64_t small_step, large_step, line_step, column_step;
};

// An encoder layer under a map that is known: y = leaky(scale * convolution(x) * map + shift).
struct EncodeWithMap {
  Sizes size;  // of x
  std::int64_t channels, outputs;
  Input x;
  Panels weight;      // [16 taps, channels] x outputs, or as winograd.h has it: its products of [4 planes, channels] x outputs
  std::int64_t tile;  // of its results a side, 2 or 3; 0 without
  Input map;          // [maps, height / 2, width / 2, outputs]; absent for 1 everywhere
  std::int64_t maps;  // images, or 1 for all
  const float *scale, *shift;  // [outputs], or both null
  float slope;
  Output y;  // may be the map, where they are of one type
};

// A mask convolution with g_A and g_M.
struct MaskStep {
  Sizes size;  // of u
  std::int64_t channels, outputs;
  Input u;
  Panels weight;
  std::int64_t tile;  // both as in EncodeWithMap; 2 or 0: larger tiles would leave rounding errors of windows of zeros
  Gaussian<float> gaussian;
  float alpha;
  // All positions by kind, and the kinds: 0 where m is 0, 1 where m is `constant`, 2 where it is to be computed; or all null.
  const std::int32_t* order;
  const std::uint8_t* kinds;
  const float* constant;  // [outputs]
  Output map, update;     // each where it is wanted
};

// A decoder layer: transposed convolution of one or two inputs, times a map, and as in EncodeWithMap.
struct DecodeWithMap {
  Sizes size;  // of the inputs
  std::int64_t skip_channels, own_channels, outputs;
  Input skip, own;
  // Of skip before own: [4 taps, channels] x 4 pixels of outputs, as windows.h has it; or, as winograd.h has it, for each of the
  // 4 phases of the result's lines and columns its products of [channels] x outputs.
  Panels weight;
  std::int64_t tile;  // 2 or 0: results in larger tiles would depend on inputs that are not needed
  Input map;          // as in EncodeWithMap
  std::int64_t maps;
  const float *scale, *shift;
  float slope;
  // [images, 2 * height, 2 * width], 0 where y may be left as it is: inputs that only such places read may be anything. Null where
  // all of y is needed.
  const std::uint8_t* needed;
  Output y;  // may be the map, where they are of one type
};

enum class Form { kTanh, kAbs };

// The last transposed convolution: a picture of 3 channels in [0, 1], pasted where there is an image and its mask.
struct Reconstruct {
  Sizes size;
  std::int64_t skip_channels, own_channels;
  Input skip, own;
  // [4 taps, channels] x 4 pixels of 3 colours, of skip before own. In bfloat16 of 6, whose last three are what rounding took
  // from the first three.
  Panels weight;
  Form form;
  const std::uint8_t* needed;  // as in DecodeWithMap
  Output y;
};

// Which inputs the needed results of a transposed convolution are made of.
struct Needs {
  Sizes size;                  // of the result, even
  const std::uint8_t* needed;  // [images, height, width], 0 or 1
  std::uint8_t* inputs;        // [images, height / 2, width / 2]
};

// A picture in any layout: element (image, channel, line, column) lies at the sum of their steps.
struct Strided {
  Input picture;
  std::int64_t channels, steps[4];
};

// What the image network reads: image * mask, 0 where the mask is 0, and the mask's first channel where y has a fourth.
struct Damage {
  Sizes size;
  Strided image, mask;    // 3 channels; 1 or 3, its first step 0 where one serves all images
  std::int64_t channels;  // of y: 3 or 4
  Output y;
};

// What a network with a harmonic base reads and corrects: steps as in lbam_fast/reference/harmonic.py, which names their numbers.
// Height and width are multiples of 2^levels.
struct CorrectionInput {
  Sizes size;
  Strided image, mask, trend;  // 3 channels; 1 or 3, its first step 0 where one serves all images; 3
  float contrast;
  std::int64_t levels, first_sweeps, cycles, sweeps, coarsest_sweeps;
  Output x, base;  // [images, height, width, 6 and 3]
};

// base + (2 y - 1), kept within [0, 1]. The result may be one of them.
struct Correct {
  std::int64_t count;
  Input base, y;
  Output result;
};

// The kinds of positions of a mask: 0 where all channels are 0, 1 where all are 1, else 2.
struct Classify {
  std::int64_t positions, channels;
  Input mask;
  std::uint8_t* kinds;  // [positions]
};

// What kind of window each position of a mask convolution's result has; see lbam_fast/ops/regions.py.
struct Spread {
  Sizes size;                 // of kinds
  const std::uint8_t* kinds;  // [images, height, width]
  std::uint8_t* next;         // [images, height / 2, width / 2]
  std::int32_t* order;        // all positions, by kind
  std::uint8_t* sorted;       // their kinds
};

}  // namespace lbam::cpu
