"""The published weights of the rivals, as they come: the dialect is recognised by the keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbam_fast.checkpoints import CheckpointError, mismatches, read_state
from lbam_fast.evaluation.rivals.adapter import Rival, RivalError
from lbam_fast.evaluation.rivals.dialects import DIALECTS, METHODS, Triple, where_weights_are
from lbam_fast.evaluation.rivals.tensor_bundle import TensorBundleError, read_tensor_bundle
from lbam_fast.evaluation.rivals.torch7 import Torch7Error, read_torch7

_SIGNATURES = {
    "pconv_naoto": "enc_1.conv.input_conv.weight",
    "gl_otenim": "deconv13.weight",
    "gl_mmagic": "dilation_neck.dilation_convs.0.conv.weight",
    "pconv_mmagic": "encoder.enc1.conv.weight",
    "ca_daa233": "coarse_generator.conv1.conv.weight",
    "ca_mmagic": "stage1.encoder.enc1.conv.weight",
    "gl_authors": "48.weight",
}
"""A key by which a dialect is known; the first that is there decides."""
_FIRST = {"gl_otenim": "conv1.weight", "gl_mmagic": "encoder.enc1.conv.weight", "gl_authors": "0.weight"}
"""The filters whose number is the base width, where that is another key."""
_SAME_KEYS = ("ca_daa233", "ca_daa233_sum", "ca_authors_floor", "ca_authors_round")
_REDUNDANT = ("num_batches_tracked", "mask_conv.weight", "weight_mask_updater", "fuse_kernel")
"""Entries that no result depends on: they may be missing."""


def load_rival(method: str, path: str | Path | None, *, dialect: str | None = None) -> Rival:
    """The rival in a published file, or in one of a ``Rival``'s own, on the CPU, in float32 and ``eval()``.

    method   "pconv", "global-local" or "contextual-attention"
    path     PyTorch's or safetensors; Torch7's (.t7); TensorFlow's: the folder, or the file that ends in .index. None is an error
             that says where weights are to be had: there is no rival without any
    dialect  in place of the one recognised, where several have the same keys ("ca_authors_round" for "ca_authors_floor")

    Nothing in a file is run: pickles are read with ``weights_only=True``. Raises RivalError.
    """
    if method not in METHODS:
        raise RivalError(f"there is no rival {method!r}; expected one of {', '.join(METHODS)}")
    if path is None:
        raise RivalError(f"{method} needs weights, and none ship with this package. Published are:\n{where_weights_are(method)}")
    path = Path(path)
    state, name, extras = _read(path)
    name = _chosen(name or _recognised(state, path), dialect, path)
    if DIALECTS[name].method != method:
        raise RivalError(f"{path} holds weights of {DIALECTS[name].method} (dialect {name}), not of {method}")
    return _filled(path, state, name, extras)


def _read(path: Path) -> tuple[dict[str, Tensor], str | None, dict[str, Triple]]:
    """The network's state dict, the dialect where the file itself says it, and colours that belong to the weights."""
    try:
        if path.is_dir() or path.suffix == ".index":
            return _from_tensorflow(path), "ca_authors_floor", {}
        if path.suffix == ".t7":
            state, mean = _from_torch7(path)
            return state, "gl_authors", {"mean": mean}
        state, _ = read_state(path)
    except (Torch7Error, TensorBundleError) as error:
        raise RivalError(f"cannot read {path}: {error}") from error
    except (CheckpointError, OSError) as error:
        raise RivalError(str(error)) from error
    for prefix, says in (("generator.", None), ("netG.", "ca_authors_floor"), ("network.", None)):
        inner = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        if inner:
            own = ("mean", "hole") if prefix == "network." else ()  # what a Rival keeps beside its network
            return inner, says, {key: _triple(state[key].flatten().tolist(), path) for key in own if key in state}
    mpv = _otenim_hole(path) if _SIGNATURES["gl_otenim"] in state else {}
    return state, None, mpv


def _recognised(state: Mapping[str, Tensor], path: Path) -> str:
    for name, key in _SIGNATURES.items():
        if key in state:
            return name
    keys = ", ".join(list(state)[:6])
    raise RivalError(f"{path} holds no network of {', '.join(METHODS)} that is known here; its keys: {keys} ...")


def _chosen(found: str, wanted: str | None, path: Path) -> str:
    """The dialect asked for, if it has the same keys as the one found."""
    if wanted is None or wanted == found:
        return found
    if found in _SAME_KEYS and wanted in _SAME_KEYS:
        return wanted
    raise RivalError(f"{path} has the dialect {found}, not {wanted}")


def _filled(path: Path, state: dict[str, Tensor], name: str, extras: dict[str, Triple]) -> Rival:
    """A rival of that dialect, as wide and deep as the state dict says, with its values."""
    key = _FIRST.get(name) or _SIGNATURES.get(name, _SIGNATURES["ca_daa233"])
    first = state.get(key)
    if first is None or first.dim() != 4:
        raise RivalError(f"{path} looks like {name}, but has no filters {key}")
    levels = 8 if "enc_8.conv.input_conv.weight" in state or "encoder.enc8.conv.weight" in state else 7
    rival = Rival(name, base_width=first.shape[0], levels=levels, **extras)
    expected = rival.network.state_dict()
    state = {key: tensor for key, tensor in expected.items() if key.endswith(_REDUNDANT)} | state
    problems = mismatches(state, expected)
    if problems:
        raise RivalError(f"{path} looks like {name} at base width {first.shape[0]}, but does not fit: {problems}")
    rival.network.load_state_dict(state)
    return rival.eval()


def _from_tensorflow(path: Path) -> dict[str, Tensor]:
    """Of Contextual Attention's authors: the generator's tensors under the keys of "ca_daa233"."""
    found = [path] if path.suffix == ".index" else sorted(path.glob("*.index"))
    if len(found) != 1:
        raise RivalError(f"{path} has {len(found)} files *.index of a TensorFlow checkpoint, expected one; name the one to take")
    state = {}
    for name, array in read_tensor_bundle(found[0]).items():
        if parts := re.fullmatch(r"inpaint_net/(\w+?)(?:_upsample/\1_upsample_conv)?/(kernel|bias)", name):
            layer, kind = parts.groups()
            stage = "coarse_generator" if layer.startswith("conv") else "fine_generator"
            tensor = torch.from_numpy(array.copy())
            weight = tensor.permute(3, 2, 0, 1) if kind == "kernel" else tensor
            state[f"{stage}.{layer.removeprefix('x')}.conv.{'weight' if kind == 'kernel' else 'bias'}"] = weight
    if not state:
        raise RivalError(f"{found[0]} has no tensors inpaint_net/..., as the checkpoints of Contextual Attention's authors have")
    return state


def _from_torch7(path: Path) -> tuple[dict[str, Tensor], Triple]:
    """Of Global&Local's authors: the modules' tensors under their numbers from 0, and the mean."""
    content = read_torch7(path)
    model, mean = (content.get("model"), content.get("mean")) if isinstance(content, dict) else (None, None)
    modules = model.get("modules") if isinstance(model, dict) else None
    if not isinstance(modules, dict) or mean is None:
        raise RivalError(f"{path} is no completion network: expected a table of 'mean' and 'model'")
    state = {}
    for number, module in modules.items():
        for kind in ("weight", "bias", "running_mean", "running_var"):
            array = module.get(kind) if isinstance(module, dict) else None
            if isinstance(array, np.ndarray):
                if kind == "weight" and array.ndim == 2:  # some of Torch's convolutions keep their filters as a matrix
                    array = array.reshape([int(module.get(key, -1)) for key in ("nOutputPlane", "nInputPlane", "kH", "kW")])
                state[f"{int(number) - 1}.{kind}"] = torch.from_numpy(array)
    values = [mean.get(i) for i in (1, 2, 3)] if isinstance(mean, dict) else np.ravel(mean).tolist()
    return state, _triple(values, path)


def _otenim_hole(path: Path) -> dict[str, Triple]:
    """What stands in holes, from the config.json beside the file."""
    config = path.with_name("config.json")
    try:
        return {"hole": _triple(json.loads(config.read_text("utf-8"))["mpv"], config)}
    except FileNotFoundError as error:
        raise RivalError(
            f"{path} needs the config.json that was published with it, beside it: 'mpv' there is what stands in holes"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RivalError(f"cannot read 'mpv' from {config}: {error!r}") from error


def _triple(values: Any, path: Path) -> Triple:
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in values):
        raise RivalError(f"{path}: a colour is {values!r}, expected three numbers in [0, 1]")
    red, green, blue = map(float, values)
    return red, green, blue
