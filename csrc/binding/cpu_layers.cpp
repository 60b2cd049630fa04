// The layers that are convolutions. Pictures are [N, C, H, W] in channels_last; results are written into tensors that are given.
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu_ops.h"
#include "cpu_tensors.h"

namespace lbam::binding {
namespace {

using cpu::Sizes;

struct Picture {
  Rows rows;
  Sizes size;
};

Picture picture(const Tensor& x, const char* message) {
  const Rows r = rows(x, message);
  require(r.dims == 4, message);
  return {r, {r.sizes[0], r.sizes[2], r.sizes[3]}};
}

bool same(const Sizes& a, const Sizes& b) { return a.images == b.images && a.height == b.height && a.width == b.width; }

constexpr const char* kOut = "out: expected the result's shape and dtype, dense and channels_last";

// A result that the caller gives.
void require_picture(const Tensor& y, const Sizes& size, std::int64_t channels, Type type) {
  const Picture given = picture(y, kOut);
  require(same(given.size, size) && given.rows.channels == channels && type_of(y) == type, kOut);
}

std::int64_t elements(const Tensor& x) {
  std::int64_t count = 1;
  for (std::int64_t i = 0; i < x.dims(); ++i) count *= x.sizes()[i];
  return count;
}

// Of filters as `pack` leaves them.
std::int64_t elements_of_panels(std::int64_t channels, std::int64_t outputs, bool transposed, std::int64_t tile) {
  if (tile > 0) return 4 * (tile + 1) * (tile + 1) * channels * cpu::packed_columns(outputs);
  return transposed ? 4 * channels * cpu::packed_columns(4 * outputs) : 16 * channels * cpu::packed_columns(outputs);
}

Input panels(const Tensor& weight, std::int64_t channels, std::int64_t outputs, bool transposed, std::int64_t tile) {
  const Input result = input(weight);
  require(result.type == Type::kFloat || cpu::bfloat16_products(), "weight: this processor has no products of bfloat16");
  const bool fits = elements(weight) == elements_of_panels(channels, outputs, transposed, tile);
  require(fits, "weight: not filters of this layer that pack has left");
  return result;
}

// The images whose map it is: 1, or as many as the result's.
std::int64_t maps_of(const Tensor& map, const Sizes& result, std::int64_t channels) {
  if (!map) return 1;
  constexpr const char* message = "attention: expected the shape of the result, channels_last, or that with batch 1";
  const Picture own = picture(map, message);
  require(own.rows.channels == channels && own.size.height == result.height && own.size.width == result.width, message);
  require(own.size.images == 1 || own.size.images == result.images, message);
  return own.size.images;
}

template <typename T>
T* integers(const Tensor& x, std::int64_t count, std::int32_t dtype, const char* message) {
  require(x.dims() == 1 && x.sizes()[0] == count && (count <= 1 || x.strides()[0] == 1) && x.dtype() == dtype, message);
  return static_cast<T*>(x.data());
}

// The elements of a dense uint8 [images, 1, height, width].
std::uint8_t* kinds_of(const Tensor& x, const Sizes& size, const char* message) {
  const Picture own = picture(x, message);
  require(own.rows.channels == 1 && same(own.size, size) && x.dtype() == aoti_torch_dtype_uint8(), message);
  return static_cast<std::uint8_t*>(x.data());
}

// Where a result is needed; null for everywhere.
const std::uint8_t* needed_of(const Tensor& x, const Sizes& result) {
  return x ? kinds_of(x, result, "needed: expected a dense uint8 [N, 1, H, W] of the result's size") : nullptr;
}

// The results a side of Winograd's tiles, 2 or `largest`; 0 without.
std::int64_t tile_of(StableIValue value, std::int64_t largest) {
  const auto tile = static_cast<std::int64_t>(value);
  require(tile == 0 || tile == 2 || tile == largest, largest == 3 ? "tile: expected 0, 2 or 3" : "tile: expected 0 or 2");
  return tile;
}

// A picture in any layout; one may serve all images if `shared`.
cpu::Strided strided(const Tensor& x, const Sizes& size, bool shared, const char* message) {
  require(x.dims() == 4, message);
  const std::int64_t *const sizes = x.sizes(), *const steps = x.strides();
  require((sizes[0] == size.images || (shared && sizes[0] == 1)) && sizes[2] == size.height && sizes[3] == size.width, message);
  return {input(x), sizes[1], {sizes[0] == 1 ? 0 : steps[0], steps[1], steps[2], steps[3]}};
}

cpu::Strided colours(const Tensor& image, const Sizes& size, const char* message) {
  const cpu::Strided result = strided(image, size, false, message);
  require(result.channels == 3, message);
  return result;
}

cpu::Strided known(const Tensor& mask, const Sizes& size, const char* message) {
  const cpu::Strided result = strided(mask, size, true, message);
  require(result.channels == 1 || result.channels == 3, message);
  return result;
}

constexpr const char* kInputs = "skip, own: expected pictures of one size and dtype in channels_last";

}  // namespace

void pack(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor first(Tensor::optional(stack[0])), weight(stack[1]), panels(stack[4]);
  const bool transposed = flag(stack[2]), pairs = type_of(panels) == Type::kBfloat16;
  const std::int64_t tile = tile_of(stack[3], transposed ? 2 : 3);
  constexpr const char* message = "first, weight: expected float32 [C_out, C_in, 4, 4], or transposed two of [C_in, C_out, 4, 4]";
  cpu::Pack request{transposed, tile, 0, {}, 0, {}};
  std::int64_t channels = 0;
  bool odd = false;
  for (const Tensor* x : {&first, &weight}) {
    if (!*x) continue;
    const std::int64_t *const sizes = x->sizes(), *const strides = x->strides();
    require(x->dims() == 4 && sizes[2] == 4 && sizes[3] == 4 && x->dtype() == aoti_torch_dtype_float32(), message);
    require(request.count == 0 || (transposed && sizes[1] == request.outputs), message);
    request.outputs = sizes[transposed ? 1 : 0];
    channels += sizes[transposed ? 0 : 1];
    odd = odd || sizes[transposed ? 0 : 1] % 2 != 0;
    request.filters[request.count++] = {static_cast<const float*>(x->data()),
                                        sizes[transposed ? 0 : 1],
                                        strides[transposed ? 0 : 1],
                                        strides[transposed ? 1 : 0],
                                        strides[2],
                                        strides[3]};
  }
  const std::int64_t count = elements_of_panels(channels, request.outputs, transposed, tile);
  require(panels.dims() == 1 && panels.sizes()[0] == count && panels.strides()[0] == 1, "out: expected a dense [panel_elements]");
  require(!pairs || (cpu::bfloat16_products() && !(transposed && tile > 0 && odd)),
          "bfloat16: needs a processor that multiplies it and, transposed in tiles, even numbers of channels");
  request.panels = output(panels);
  cpu::pack(request, threads());
}

void filter_gradient(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor small(stack[0]), large(stack[1]), out(stack[2]);
  constexpr const char* message =
      "small, large: expected float32 [N, C, H, W], H and W even, and [N, C', 2H, 2W] in channels_last";
  const Picture inner = picture(small, message), outer = picture(large, message);
  const Sizes doubled = {inner.size.images, 2 * inner.size.height, 2 * inner.size.width};
  require(same(outer.size, doubled) && inner.size.height % 2 == 0 && inner.size.width % 2 == 0, message);
  require(type_of(small) == Type::kFloat && type_of(large) == Type::kFloat, message);
  const std::int64_t *const sizes = out.sizes(), *const steps = out.strides();
  require(out.dims() == 4 && sizes[0] == inner.rows.channels && sizes[1] == outer.rows.channels && sizes[2] == 4 &&
              sizes[3] == 4 && out.dtype() == aoti_torch_dtype_float32(),
          "out: expected float32 [C, C', 4, 4]");
  cpu::filter_gradient({outer.size, inner.rows.channels, outer.rows.channels, floats(small), floats(large), floats(out), steps[0],
                        steps[1], steps[2], steps[3]},
                       threads());
}

void panel_elements(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const auto channels = static_cast<std::int64_t>(stack[0]), outputs = static_cast<std::int64_t>(stack[1]);
  stack[0] =
      static_cast<StableIValue>(elements_of_panels(channels, outputs, flag(stack[2]), tile_of(stack[3], flag(stack[2]) ? 2 : 3)));
}

void encode_with_map(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor x(stack[0]), weight(stack[1]), map(Tensor::optional(stack[2])), scale(Tensor::optional(stack[3])),
      shift(Tensor::optional(stack[4])), y(stack[7]);
  const Picture own = picture(x, "x: expected a dense channels_last [N, C, H, W]");
  const Sizes result = {own.size.images, own.size.height / 2, own.size.width / 2};
  const std::int64_t outputs = picture(y, kOut).rows.channels, maps = maps_of(map, result, outputs);
  const std::int64_t tile = tile_of(stack[6], 3);
  require(static_cast<bool>(scale) == static_cast<bool>(shift), kAffine);
  require_picture(y, result, outputs, type_of(x));
  cpu::encode_with_map(
      {own.size, own.rows.channels, outputs, input(x), panels(weight, own.rows.channels, outputs, false, tile), tile, input(map),
       maps, per_channel(scale, outputs), per_channel(shift, outputs), static_cast<float>(number(stack[5])), output(y)},
      threads());
}

void mask_step(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor u(stack[0]), weight(stack[1]), scalars(stack[3]), alpha(stack[4]), order(Tensor::optional(stack[5])),
      kinds(Tensor::optional(stack[6])), constant(Tensor::optional(stack[7])), map(Tensor::optional(stack[9])),
      update(Tensor::optional(stack[10]));
  const std::int64_t outputs = static_cast<std::int64_t>(stack[2]);
  const Picture own = picture(u, "u: expected a dense channels_last [N, C, H, W]");
  const Sizes result = {own.size.images, own.size.height / 2, own.size.width / 2};
  const std::int64_t count = result.images * result.height * result.width;
  constexpr const char* message = "order, kinds, constant: expected int32 and uint8 for every position and float32 [C], or none";
  const bool skips = static_cast<bool>(order);
  require(skips == static_cast<bool>(kinds) && skips == static_cast<bool>(constant), message);
  const std::int64_t tile = tile_of(stack[8], 2);
  for (const Tensor* each : {&map, &update})
    if (*each) require_picture(*each, result, outputs, type_of(*each));
  cpu::mask_step({own.size, own.rows.channels, outputs, input(u), panels(weight, own.rows.channels, outputs, false, tile), tile,
                  gaussian(scalars), *values(alpha, 1, kAlpha),
                  skips ? integers<std::int32_t>(order, count, aoti_torch_dtype_int32(), message) : nullptr,
                  skips ? integers<std::uint8_t>(kinds, count, aoti_torch_dtype_uint8(), message) : nullptr,
                  skips ? values(constant, outputs, message) : nullptr, output(map), output(update)},
                 threads());
}

void decode_with_map(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor skip(Tensor::optional(stack[0])), own(stack[1]), weight(stack[2]), map(Tensor::optional(stack[3])),
      scale(Tensor::optional(stack[4])), shift(Tensor::optional(stack[5])), needed(Tensor::optional(stack[8])), y(stack[9]);
  const Picture inner = picture(own, kInputs), outer = skip ? picture(skip, kInputs) : Picture{};
  require(!skip || (same(inner.size, outer.size) && type_of(skip) == type_of(own)), kInputs);
  const Sizes result = {inner.size.images, 2 * inner.size.height, 2 * inner.size.width};
  const std::int64_t outputs = picture(y, kOut).rows.channels, maps = maps_of(map, result, outputs);
  const std::int64_t depth = inner.rows.channels + outer.rows.channels;
  const std::int64_t tile = tile_of(stack[7], 2);
  require(static_cast<bool>(scale) == static_cast<bool>(shift), kAffine);
  require_picture(y, result, outputs, type_of(own));
  cpu::decode_with_map({inner.size, outer.rows.channels, inner.rows.channels, outputs, input(skip), input(own),
                        panels(weight, depth, outputs, true, tile), tile, input(map), maps, per_channel(scale, outputs),
                        per_channel(shift, outputs), static_cast<float>(number(stack[6])), needed_of(needed, result), output(y)},
                       threads());
}

void reconstruct(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor skip(stack[0]), own(stack[1]), weight(stack[2]), needed(Tensor::optional(stack[4])), y(stack[5]);
  const Picture outer = picture(skip, kInputs), inner = picture(own, kInputs);
  require(same(inner.size, outer.size) && type_of(skip) == type_of(own), kInputs);
  const Sizes result = {inner.size.images, 2 * inner.size.height, 2 * inner.size.width};
  require_picture(y, result, 3, type_of(own));
  const std::int64_t colours = type_of(weight) == Type::kBfloat16 ? 6 : 3;
  cpu::reconstruct({inner.size, outer.rows.channels, inner.rows.channels, input(skip), input(own),
                    panels(weight, outer.rows.channels + inner.rows.channels, colours, true, false),
                    flag(stack[3]) ? cpu::Form::kAbs : cpu::Form::kTanh, needed_of(needed, result), output(y)},
                   threads());
}

// Before it is first written: a fresh tensor costs a page fault for each of its pages.
void in_large_pages(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor x(stack[0]);
#if defined(__linux__)
  constexpr std::int64_t kPage = std::int64_t{2} << 20;
  const std::int64_t begin = reinterpret_cast<std::int64_t>(x.data()), bytes = elements(x) * (type_of(x) == Type::kFloat ? 4 : 2);
  const std::int64_t first = (begin + kPage - 1) / kPage * kPage, length = (begin + bytes) / kPage * kPage - first;
  if (length > 0) madvise(reinterpret_cast<void*>(first), length, MADV_HUGEPAGE);  // advice: it may be ignored
#endif
}

void damage(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor image(stack[0]), mask(stack[1]), y(stack[2]);
  constexpr const char* message = "image, mask, out: expected [N, 3, H, W], [N or 1, 1 or 3, H, W] and [N, 3 or 4, H, W]";
  const Picture result = picture(y, message);
  const std::int64_t channels = result.rows.channels;
  require(channels == 3 || channels == 4, message);
  cpu::damage({result.size, colours(image, result.size, message), known(mask, result.size, message), channels, output(y)},
              threads());
}

void correction_input(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor image(stack[0]), mask(stack[1]), trend(stack[2]), x(stack[9]), base(stack[10]);
  constexpr const char* message =
      "image, mask, trend, x, base: expected [N, 3, H, W], [N or 1, 1 or 3, H, W], [N, 3, H, W], [N, 6, H, W] and [N, 3, H, W], H and"
      " W multiples of 2^levels";
  const auto count = [&](int position) { return static_cast<std::int64_t>(stack[position]); };
  const std::int64_t levels = count(4);
  const Picture result = picture(x, message);
  const Sizes& size = result.size;
  require(levels >= 1 && levels < 31 && size.height % (1LL << levels) == 0 && size.width % (1LL << levels) == 0, message);
  require(result.rows.channels == 6, message);
  require_picture(base, size, 3, type_of(base));
  cpu::correction_input(
      {size, colours(image, size, message), known(mask, size, message), colours(trend, size, message),
       static_cast<float>(number(stack[3])), levels, count(5), count(6), count(7), count(8), output(x), output(base)},
      threads());
}

void correct(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor base(stack[0]), y(stack[1]), out(stack[2]);
  constexpr const char* message = "base, y, out: expected dense pictures of one size in channels_last";
  const Picture all = picture(base, message);
  require(rows(y, message) == all.rows && rows(out, message) == all.rows, message);
  cpu::correct({all.rows.positions * all.rows.channels, input(base), input(y), output(out)}, threads());
}

void exemplar(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor given(stack[0]), hole(stack[1]), filled(stack[4]);
  constexpr const char* message =
      "picture, hole, filled: expected a dense channels_last float32 [1, 3, H, W], a dense uint8 [1, 1, H, W], and as the picture";
  const Picture from = picture(given, message), to = picture(filled, message);
  require(from.size.images == 1 && from.rows.channels == 3 && to.rows == from.rows, message);
  require(type_of(given) == Type::kFloat && type_of(filled) == Type::kFloat, message);
  require(from.size.height * from.size.width <= INT32_MAX / 4, "picture: too large for one piece");
  cpu::exemplar({from.size.height, from.size.width, floats(given), kinds_of(hole, from.size, message),
                 static_cast<std::uint32_t>(stack[2]), floats(filled)},
                flag(stack[3]) ? cpu::ParallelFor{} : threads());
}

void classify(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor mask(stack[0]), kinds(stack[1]);
  constexpr const char* message = "mask, kinds: expected a dense channels_last [N, C, H, W] and uint8 [N, 1, H, W]";
  const Picture all = picture(mask, message);
  cpu::classify({all.rows.positions, all.rows.channels, input(mask), kinds_of(kinds, all.size, message)}, threads());
}

void spread(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor kinds(stack[0]), next(stack[1]), order(stack[2]), sorted(stack[3]);
  constexpr const char* message =
      "kinds, next, order, sorted: expected dense uint8 [N, 1, H, W] of even height and width and [N, 1, H/2, W/2], int32 and"
      " uint8 [positions of next]";
  const Picture all = picture(kinds, message);
  require(all.size.height % 2 == 0 && all.size.width % 2 == 0, message);
  const Sizes result = {all.size.images, all.size.height / 2, all.size.width / 2};
  const std::int64_t count = result.images * result.height * result.width;
  cpu::spread({all.size, kinds_of(kinds, all.size, message), kinds_of(next, result, message),
               integers<std::int32_t>(order, count, aoti_torch_dtype_int32(), message),
               integers<std::uint8_t>(sorted, count, aoti_torch_dtype_uint8(), message)},
              threads());
}

void needs(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor needed(stack[0]), inputs(stack[1]);
  constexpr const char* message =
      "needed, inputs: expected dense uint8 [N, 1, H, W] of even height and width and [N, 1, H/2, W/2]";
  const Picture all = picture(needed, message);
  require(all.size.height % 2 == 0 && all.size.width % 2 == 0, message);
  const Sizes half = {all.size.images, all.size.height / 2, all.size.width / 2};
  cpu::needs({all.size, kinds_of(needed, all.size, message), kinds_of(inputs, half, message)}, threads());
}

}  // namespace lbam::binding
