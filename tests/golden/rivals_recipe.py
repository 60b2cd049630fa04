"""Weights and inputs behind `rivals.json` and `rivals.npz` (the facts are in ../RIVALS.md).

As in `recipe.py`, everything is drawn from a seed and a name, so that no weight has to be shipped.
`rivals.json` lists, for every case, each state-dict key with its shape and its kind; the kind picks
the distribution below.  All values are float64.  Needs this folder on the import path.

    import json, rivals_recipe as rr
    cases = json.load(open("rivals.json"))["cases"]
    state = rr.state(cases["gl_otenim"])       # {key: array}
    given = rr.inputs("gl_otenim", cases["gl_otenim"])
"""

from __future__ import annotations

import numpy as np
from golden.recipe import _upsample, image, mask, rng

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GL_PLACES_MEAN = (0.4560, 0.4472, 0.4155)  # of the authors' Places2 network, RGB
GL_OTENIM_MPV = (0.50, 0.45, 0.40)  # made up; a real one comes with the checkpoint's config file
PROBES = 1024


def weight(seed: int, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Value of the entry `name`. Convolutions are [out, in, kh, kw], `deconv` is [in, out, 4, 4]."""
    g = rng(seed, name)
    if kind == "ones":
        return np.ones(shape)
    if kind == "identity":
        return np.eye(shape[-1]).reshape(shape)
    if kind == "count":
        return np.asarray(7)
    if kind in ("bias", "bn_bias", "bn_mean"):
        return g.normal(0.0, 0.1, shape)
    if kind == "bn_var":
        return g.uniform(0.5, 1.5, shape)
    if kind == "bn_weight":
        return g.uniform(0.6, 1.4, shape)
    if kind == "deconv":  # 4x4, stride 2: four taps reach an output pixel
        return g.normal(0.0, np.sqrt(2.0 / (4 * shape[0])), shape)
    fan_in = shape[1] * shape[2] * shape[3]
    deviation = {
        "conv": np.sqrt(2.0 / fan_in),
        "conv_out": 0.25 / np.sqrt(fan_in),  # last layer: most outputs stay inside the clamp
        "conv_out_low": 0.08 / np.sqrt(fan_in),
        "conv_to_attention": 0.03 * np.sqrt(2.0 / fan_in),  # keeps the softmax from being one-hot
        "conv_from_attention": 30.0 * np.sqrt(2.0 / fan_in),
        "conv_mean": np.sqrt(2.0 / fan_in) * fan_in,  # where the layer divides by the window's mask sum
    }[kind]
    return g.normal(0.0, deviation, shape)


def state(case: dict) -> dict[str, np.ndarray]:
    """The whole state dict of a case, keys in the order of the file."""
    return {name: weight(case["seed"], name, tuple(shape), kind) for name, (shape, kind) in case["keys"].items()}


def features(seed: int, name: str, n: int, channels: int, height: int, width: int) -> np.ndarray:
    """Smooth maps with a little noise, small enough that a softmax over matches stays soft."""
    g = rng(seed, name)
    smooth = [[_upsample(g.normal(0, 1, (5, 6)), height, width) for _ in range(channels)] for _ in range(n)]
    return 0.03 * (np.asarray(smooth) + g.normal(0, 0.3, (n, channels, height, width)))


def inputs(name: str, case: dict) -> dict[str, np.ndarray]:
    """What the network or layer is called with. `known` is 1 where a pixel is known, `hole` its complement."""
    seed, (h, w), kinds = case["seed"], case["size"], case["masks"]
    known = np.stack([mask(seed + i, h, w, kind) for i, kind in enumerate(kinds)])
    hole = 1.0 - known[:, :1]
    if name.startswith("layer_partial_conv"):
        known = np.concatenate([known, 0.02 * known[-1:]])  # faint: window sums on both sides of 1
        return {"x": rng(seed, "feature").normal(0, 1, (len(known), 3, h, w)), "known": known}
    if name.startswith("layer_attention"):
        return {"x": features(seed, "feature", len(kinds), 16, h // 4, w // 4), "hole": hole}
    img = np.stack([image(seed + i, h, w) for i in range(len(kinds))])

    def channels(v):
        return np.asarray(v)[None, :, None, None]

    if name == "pconv_naoto":
        return {"x": (img - channels(IMAGENET_MEAN)) / channels(IMAGENET_STD) * known, "known": known}
    if name == "pconv_mmagic":
        return {"x": (2 * img - 1) * known, "known": known}
    if name == "gl_authors":
        return {"x": np.concatenate([(img - channels(GL_PLACES_MEAN)) * known, hole], axis=1)}
    if name == "gl_otenim":
        return {"x": np.concatenate([img * known + channels(GL_OTENIM_MPV) * hole, hole], axis=1)}
    if name == "gl_mmagic":
        return {"x": np.concatenate([(2 * img - 1) * known, hole], axis=1)}
    if name.startswith("ca_"):
        return {"x": (2 * img - 1) * known, "hole": hole}
    raise ValueError(f"unknown case {name!r}")


def probe_indices(seed: int, tensor: str, size: int) -> np.ndarray:
    """Flat indices (C order) at which `rivals.npz` holds a tensor that is not stored whole."""
    return rng(seed, "index-" + tensor).integers(0, size, PROBES)


def checksum(seed: int, tensor: str, value: np.ndarray) -> list[float]:
    """[norm, sum(value * direction)] with a random direction: a fingerprint of a whole tensor."""
    direction = rng(seed, "dot-" + tensor).normal(0, 1, value.shape)
    return [float(np.linalg.norm(value)), float((value * direction).sum())]
