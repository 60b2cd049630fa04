"""A rival's network under this project's convention, whatever its dialect."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lbam_fast.errors import LBAMError
from lbam_fast.evaluation.rivals.contextual_attention import ContextualAttentionNetwork
from lbam_fast.evaluation.rivals.dialects import DIALECTS, METHODS, Triple
from lbam_fast.evaluation.rivals.global_local import CompletionNetwork
from lbam_fast.evaluation.rivals.pconv import PartialUNet

Pixels = NDArray[np.uint8]
Blending = Literal["poisson", "clone", "off"]


class RivalError(LBAMError, ValueError):
    """A rival that cannot be made or loaded; the message says what was expected."""


class Rival(nn.Module):
    """A rival's network that takes and gives pictures as LBAM does.

    name        a dialect, or a method, for the dialect that its new networks have. Without weights loaded it is untrained
    base_width  channels of the first layer; None: as published (64, contextual attention 32)
    levels      of "pconv": 7, or 8 as in the paper
    mean, hole  RGB in [0, 1], where they belong to the checkpoint: of "gl_authors" the mean, of "gl_otenim" what stands in holes

    The published weights lie under ``network``, under their own keys.
    Raises RivalError for a name that there is not, and for levels of a network that has none.
    """

    mean: Tensor
    std: Tensor
    hole: Tensor

    def __init__(
        self,
        name: str,
        *,
        base_width: int | None = None,
        levels: int = 7,
        mean: Triple | None = None,
        hole: Triple | None = None,
    ) -> None:
        super().__init__()
        self.name = METHODS.get(name, name)
        if self.name not in DIALECTS:
            raise RivalError(f"there is no rival {name!r}; expected one of {', '.join((*METHODS, *DIALECTS))}")
        self.dialect = DIALECTS[self.name]
        if levels != 7 and self.dialect.method != "pconv":
            raise RivalError(f"{name} has no levels to choose; only pconv has")
        if hole is None and self.dialect.hole is None:
            raise RivalError(
                f"{name} needs the value that stands in holes, three numbers: 'mpv' in the config.json of its weights"
            )
        self.network: nn.Module
        self.multiple = self.dialect.multiple
        match self.dialect.method:
            case "pconv":
                self.network = PartialUNet(self.name, base_width or 64, levels)
                self.multiple = 2**levels
            case "global-local":
                self.network = CompletionNetwork(self.name, base_width or 64)
            case _:
                self.network = ContextualAttentionNetwork(self.name, base_width or 32)
        values = {"mean": mean or self.dialect.mean, "std": self.dialect.std, "hole": hole or self.dialect.hole}
        for key, value in values.items():
            self.register_buffer(key, torch.tensor(value).view(1, 3, 1, 1))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """The last of ``outputs``."""
        return self.outputs(image, mask)[-1]

    def outputs(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """What each stage gives, the final one last, [N, 3, H, W], RGB in [0, 1], not pasted.

        image [N, 3, H, W], RGB in [0, 1], whatever in the hole; mask [N or 1, 1, H, W], 1 = known, soft values allowed. Any
        size: both are padded by reflection. While training, what the public code bounds after the network is not bounded.
        """
        size = image.shape[2], image.shape[3]
        smallest = max(self.dialect.smallest, self.multiple)
        for axis, length in zip((2, 3), size, strict=True):
            index = _reflected(length, max(length + -length % self.multiple, smallest)).to(image.device)
            image, mask = image.index_select(axis, index), mask.index_select(axis, index)
        return tuple(self._from_dialect(value)[..., : size[0], : size[1]] for value in self._stages(image, mask.to(image.dtype)))

    def _stages(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        x = torch.where(mask > 0, (image - self.mean) / self.std, 0) * mask
        if self.name == "gl_otenim":
            x = x + self.hole * (1 - mask)
        if self.dialect.bgr:
            x = x.flip(1)
        mask = mask.expand(len(x), -1, -1, -1)
        match self.dialect.method:
            case "pconv":
                return (self.network(x, mask.expand(-1, 3, -1, -1))[0],)
            case "global-local":
                return (self.network(torch.cat([x, 1 - mask], 1)),)
            case _:
                stages: tuple[Tensor, ...] = self.network(x, 1 - mask)
                return stages

    def _from_dialect(self, y: Tensor) -> Tensor:
        if self.dialect.bgr:
            y = y.flip(1)
        if self.dialect.normalised:
            y = y * self.std + self.mean
        return y if self.training else y.clamp(0, 1)


def _reflected(length: int, wanted: int) -> Tensor:
    """Indices that go on by reflection to and fro, as ``numpy.pad`` does it."""
    return torch.from_numpy(np.pad(np.arange(length), (0, wanted - length), mode="reflect"))


class NetworkMethod:
    """A rival as a method of the evaluation: picture [H, W, 3] and mask [H, W] with 255 = hole, uint8, to the filled picture.

    blending  after "global-local" alone, as published: "poisson", "clone" (the authors' call of OpenCV) or "off"
    """

    def __init__(self, rival: Rival, device: str | torch.device = "cpu", blending: Blending = "poisson") -> None:
        self.rival, self.device = rival.to(device).eval(), device
        self.blending = blending if rival.dialect.method == "global-local" else "off"

    def __call__(self, picture: Pixels, mask: Pixels) -> Pixels:
        hole = mask > 0
        image = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float() / 255
        known = torch.from_numpy(~hole).to(self.device)[None, None].float()
        with torch.inference_mode():
            output = 255 * self.rival(image, known)[0].permute(1, 2, 0).cpu().double().numpy()
        if self.blending == "poisson":
            from lbam_fast.evaluation.rivals.blending import blended

            output = blended(output, picture, hole)
        filled = np.where(hole[..., None], np.rint(output).clip(0, 255).astype(np.uint8), picture)
        if self.blending == "clone":
            from lbam_fast.evaluation.rivals.blending import cloned

            filled = cloned(filled, mask)
        return filled
