"""ST-LPIPS, a perceptual distance that small shifts hardly change (Ghildyal and Liu, ECCV 2022), from its published weights.

The weights lie in the wheel of ``stlpips-pytorch``. They are read as a file: the package itself imports torchvision and others.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PACKAGE = "stlpips_pytorch"
VARIABLE = "LBAM_ST_LPIPS"
"""The environment variable that names the wheel, the folder it is unpacked in, or the file of weights."""
HOW_TO_GET = (
    "pip download --no-deps stlpips-pytorch==0.0.2, then name the wheel with --st-lpips or in LBAM_ST_LPIPS; "
    "or pip install --no-deps stlpips-pytorch==0.0.2"
)
_WEIGHTS = f"{PACKAGE}/weights/vST0.0/alex_shift_tolerant.pth"
_CONVOLUTIONS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
_BLUR = "net.slice1.1.filt"


def read_weights(named: Path | None = None) -> bytes:
    """The file of weights from ``named``, else from what LBAM_ST_LPIPS names, else from the installed package.

    named: the wheel, the folder it is unpacked in, or the file. Raises FileNotFoundError, which says how to get it.
    """
    if named is None and VARIABLE in os.environ:
        named = Path(os.environ[VARIABLE])
    if named is None:
        spec = find_spec(PACKAGE)  # found, not imported
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"stlpips-pytorch is not installed: {HOW_TO_GET}")
        named = Path(spec.origin).parent.parent
    if named.is_dir():
        named /= _WEIGHTS
    if not named.is_file():
        raise FileNotFoundError(f"{named} holds no weights of ST-LPIPS, as it does not exist: {HOW_TO_GET}")
    if named.suffix != ".whl":
        return named.read_bytes()
    with zipfile.ZipFile(named) as wheel:
        return wheel.read(_WEIGHTS)


class STLPIPS:
    """The shift-tolerant variant with AlexNet's layers, the package's default. Called with two pictures, gives their distance.

    Pictures are [H, W, 3] uint8 in RGB, from 64x64 on; 0 means equal, photographs without relation are near 0.7.
    """

    def __init__(self, weights: bytes) -> None:
        """``weights``: the content of the package's file, as ``read_weights`` gives it."""
        state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
        self._shift, self._scale = state["scaling_layer.shift"], state["scaling_layer.scale"]
        self._convolutions = [(state[f"net.{name}.weight"], state[f"net.{name}.bias"]) for name in _CONVOLUTIONS]
        self._linear = [state[f"lin{i}.model.1.weight"] for i in range(len(_CONVOLUTIONS))]
        self._blur = state[_BLUR][:1]
        self._original: tuple[bytes, list[Tensor]] = (b"", [])

    @torch.inference_mode()
    def __call__(self, picture: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
        if self._original[0] != (key := original.tobytes()):  # one original is compared with what many methods made of it
            self._original = key, list(self._features(original))
        pairs = zip(self._features(picture), self._original[1], self._linear, strict=True)
        return sum(float(F.conv2d((mine - other) ** 2, linear).mean()) for mine, other, linear in pairs)

    def _features(self, picture: NDArray[np.uint8]) -> Iterator[Tensor]:
        """The five layers, each position normalised to length 1 over the channels."""
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        x = (x - self._shift) / self._scale
        first, second, third, fourth, fifth = self._convolutions
        x = F.relu(self._halved(F.conv2d(x, *first, padding=2)))
        yield _normalised(x)
        for weight, bias in (second, third):
            x = self._halved(F.max_pool2d(x, 3, stride=1))
            x = F.relu(F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2))
            yield _normalised(x)
        for weight, bias in (fourth, fifth):
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            yield _normalised(x)

    def _halved(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        padded = F.pad(x, (2, 2, 2, 2), "reflect")
        return F.conv2d(padded, self._blur.expand(channels, -1, -1, -1), stride=2, groups=channels)


def _normalised(x: Tensor) -> Tensor:
    normalised: Tensor = x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)
    return normalised
