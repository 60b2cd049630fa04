"""g_A, g_M and the activation as device functions. All arguments and results are float32."""

import triton
import triton.language as tl


@triton.jit
def attention_map(m, a, mu, gamma_l, gamma_r):
    """g_A (Eqn. 9) with one exponential."""
    below = m < mu
    bell = tl.exp(-tl.where(below, gamma_l, gamma_r) * (m - mu) * (m - mu))
    return tl.where(below, a * bell, 1 + (a - 1) * bell)


@triton.jit
def mask_update(m, alpha):
    """g_M (Eqn. 8), ``relu(m) ** alpha``; 0 where ``m`` is not positive."""
    positive = m > 0
    base = tl.where(positive, m, 1.0)
    # The factor taken out leaves a small exponent, and so a small error of it.
    return tl.where(positive, base * tl.exp2((alpha - 1) * tl.log2(base)), 0.0)


@triton.jit
def activation(x, slope):
    """LeakyReLU; slope 1 leaves ``x`` as it is."""
    return tl.where(x > 0, x, slope * x)
