"""What follows the products of a layer, in the kernels that compute them.

Everywhere ``at`` are places in the results, and a pointer that is None switches off, when compiled, what it leads to.
"""

import triton
import triton.language as tl

from .formulas import activation, attention_map, mask_update
from .sums import store_block_sums


@triton.jit
def map_of(level, scalars):
    """g_A(level)."""
    return attention_map(level, tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2), tl.load(scalars + 3))


@triton.jit
def finish_mask(masked, at, inside, scalars, alpha, m, attention, updated):
    """Stores what is wanted of the mask's product, and gives its map."""
    known = map_of(masked, scalars)
    if m is not None:
        tl.store(m + at, masked.to(m.dtype.element_ty), mask=inside)
    if attention is not None:
        tl.store(attention + at, known.to(attention.dtype.element_ty), mask=inside)
    if updated is not None:
        tl.store(updated + at, mask_update(masked, tl.load(alpha)).to(updated.dtype.element_ty), mask=inside)
    return known


@triton.jit
def finish_features(product, known, at, inside, channel, channels, group, scale, shift, slope, y, features, sums):
    """Stores what is wanted of the features' product, whose map is ``known``, or None.

    features  the bare product
    sums      of product and map by ``store_block_sums``; ``group`` is how many positions are inside, the number of their
              block, and how many blocks there are
    y         the layer's result
    """
    if features is not None:
        tl.store(features + at, product.to(features.dtype.element_ty), mask=inside)
    if known is not None:
        product *= known
    if sums is not None:
        count, block, blocks = group
        store_block_sums(sums, product, inside, count, block, blocks, channel, channels)
    if y is not None:
        if scale is not None:
            product *= tl.load(scale + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
            product += tl.load(shift + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]
        tl.store(y + at, activation(product, slope).to(y.dtype.element_ty), mask=inside)
