// The first and the last layer, and what mask chains may skip. Pictures are [N, C, H, W] in channels_last.
#include "cuda_ops.h"
#include "cuda_tensors.h"

namespace lbam::binding {
namespace {

Rows picture(const Tensor& x, const char* message) {
  const Rows r = rows(x, message);
  require(r.dims == 4, message);
  return r;
}

// Dense [batch, channels, height, width] in channels_last.
Rows picture_of(std::int64_t batch, std::int64_t channels, std::int64_t height, std::int64_t width) {
  return {4,
          {batch, channels, height, width},
          {channels * height * width, 1, channels * width, channels},
          batch * height * width,
          channels};
}

// A filter [channels, 3, 4, 4] as PyTorch lays it out.
const void* filter(const Tensor& x, std::int64_t channels, std::int32_t dtype) {
  constexpr const char* message = "skip_weight, own_weight: expected contiguous [C, 3, 4, 4] in the dtype of their inputs";
  const std::int64_t sizes[] = {channels, 3, 4, 4}, strides[] = {48, 16, 4, 1};
  require(x.dims() == 4 && x.dtype() == dtype && std::memcmp(x.sizes(), sizes, sizeof sizes) == 0, message);
  require(std::memcmp(x.strides() + 1, strides + 1, 3 * sizeof *strides) == 0 && (channels == 1 || x.strides()[0] == 48),
          message);
  return x.data();
}

}  // namespace

void encode(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor image(stack[0]), mask(stack[1]), weight(stack[2]), mask_weight(stack[3]), scalars(stack[4]), alpha(stack[5]),
      scale(Tensor::optional(stack[6])), shift(Tensor::optional(stack[7]));
  const bool update = flag(stack[9]), keep = flag(stack[10]);
  const Place place(image, {&mask, &weight, &mask_weight, &scalars, &alpha, &scale, &shift});
  constexpr const char* pictures =
      "image, mask: expected [N, 3 or 4, H, W] and [N or 1, 1 or 3, H, W] in channels_last, H and W even";
  constexpr const char* filters = "weight, mask_weight: expected [C, C of the picture, 4, 4] in channels_last";
  const Rows x = picture(image, pictures), u = picture(mask, pictures), w = picture(weight, filters),
             v = picture(mask_weight, filters);
  const std::int64_t batch = x.sizes[0], masks = u.sizes[0], height = x.sizes[2], width = x.sizes[3], channels = w.sizes[0];
  require((x.channels == 3 || x.channels == 4) && (u.channels == 1 || u.channels == 3), pictures);
  require((masks == batch || masks == 1) && u.sizes[2] == height && u.sizes[3] == width, pictures);
  require(height % 2 == 0 && width % 2 == 0, pictures);
  for (const auto& [one, from] : {std::pair<const Rows&, const Rows&>(w, x), {v, u}})
    require(one.sizes[0] == channels && one.channels == from.channels && one.sizes[2] == 4 && one.sizes[3] == 4, filters);
  const std::int32_t dtype = image.dtype();
  require_dtype(dtype, {&mask, &weight, &mask_weight});
  const Rows result = picture_of(batch, channels, height / 2, width / 2),
             own = picture_of(masks, channels, height / 2, width / 2);
  Tensor y = place.empty(result, dtype), new_mask = update ? place.empty(own, dtype) : Tensor(),
         features = keep ? place.empty(result, dtype) : Tensor(), m = keep ? place.empty(own, dtype) : Tensor();
  done(cuda::lbam_cuda_encode({type_of(image), parameters(scalars, alpha, scale, shift, channels, number(stack[8])), image.data(),
                               mask.data(), weight.data(), mask_weight.data(), y.data(), data(new_mask), data(features), data(m),
                               batch, masks, height, width, x.channels, u.channels, channels},
                              place.stream()));
  Tensor* const results[] = {&y, &new_mask, &features, &m};
  for (int i = 0; i < 4; ++i) stack[i] = (*results[i] ? std::move(*results[i]) : place.vector(0, dtype)).release();
}

void reconstruct(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor skip(Tensor::optional(stack[0])), own(stack[1]), skip_weight(Tensor::optional(stack[2])), own_weight(stack[3]);
  const Place place(own, {&skip, &skip_weight, &own_weight});
  constexpr const char* inputs = "skip, own: expected pictures of one size and dtype in channels_last; a skip with its filter";
  const Rows inner = picture(own, inputs);
  const std::int64_t batch = inner.sizes[0], height = inner.sizes[2], width = inner.sizes[3];
  require(static_cast<bool>(skip) == static_cast<bool>(skip_weight), inputs);
  std::int64_t skip_channels = 0;
  if (skip) {
    skip_channels = picture(skip, inputs).channels;
    require(picture(skip, inputs) == picture_of(batch, skip_channels, height, width), inputs);
    require_dtype(own.dtype(), {&skip});
  }
  const Rows result = picture_of(batch, 3, 2 * height, 2 * width);
  Tensor y = place.empty(result, own.dtype());
  done(cuda::lbam_cuda_reconstruct(
      {type_of(own), flag(stack[4]) ? cuda::OutputForm::kAbsTanh : cuda::OutputForm::kTanh, data(skip), own.data(),
       skip ? filter(skip_weight, skip_channels, own.dtype()) : nullptr, filter(own_weight, inner.channels, own.dtype()),
       y.data(), batch, height, width, skip_channels, inner.channels},
      place.stream()));
  stack[0] = y.release();
}

void classify(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor mask(stack[0]);
  const Place place(mask, {});
  const Rows all = picture(mask, "mask: expected a dense [N, C, H, W] in channels_last");
  Tensor kinds = place.empty(picture_of(all.sizes[0], 1, all.sizes[2], all.sizes[3]), aoti_torch_dtype_uint8());
  done(cuda::lbam_cuda_classify_mask(
      {type_of(mask), mask.data(), static_cast<std::uint8_t*>(kinds.data()), all.positions, all.channels}, place.stream()));
  stack[0] = kinds.release();
}

void spread(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const Tensor kinds(stack[0]);
  const Place place(kinds, {});
  constexpr const char* message = "kinds: expected a dense uint8 [N, 1, H, W] of even height and width";
  const Rows all = picture(kinds, message);
  const std::int64_t batch = all.sizes[0], height = all.sizes[2], width = all.sizes[3];
  require(all.channels == 1 && kinds.dtype() == aoti_torch_dtype_uint8() && height % 2 == 0 && width % 2 == 0, message);
  const Rows result = picture_of(batch, 1, height / 2, width / 2);
  Tensor next = place.empty(result, aoti_torch_dtype_uint8()), sorted = place.bytes(result.positions),
         order = place.vector(result.positions, aoti_torch_dtype_int32());
  const Tensor workspace = place.bytes(cuda::lbam_cuda_sorted_workspace());
  auto* const classes = static_cast<std::uint8_t*>(next.data());
  done(cuda::lbam_cuda_classify_next({static_cast<const std::uint8_t*>(kinds.data()), classes, batch, height, width},
                                     place.stream()));
  done(cuda::lbam_cuda_sorted_positions({classes, static_cast<std::int32_t*>(order.data()),
                                         static_cast<std::uint8_t*>(sorted.data()), workspace.data(), result.positions},
                                        place.stream()));
  stack[0] = next.release();
  stack[1] = order.release();
  stack[2] = sorted.release();
}

}  // namespace lbam::binding
