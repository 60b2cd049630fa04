"""What a request may ask for beside its picture and its mask: those of ``lbam-fast inpaint`` that concern one picture."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lbam_fast.config import HoleColour
from lbam_fast.inference import MaskOptions
from lbam_fast.inference.masks import beyond_grow

MOST_PIXELS = 256
"""By which a hole is grown and feathered at most."""


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class Choices(BaseModel):
    """How the network is used; pictures of other choices cannot share a pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detail: Literal["auto", "exemplar", "off"] = Field(
        "auto",
        description="Texture from the known pixels, over what the network fills; auto: for narrow networks and thin holes.",
    )
    strategy: Literal["auto", "whole", "resize", "crop", "tile"] = Field(
        "auto", description="For large pictures: in one pass, at a limited size, in boxes around the holes, or in tiles."
    )
    passes: Annotated[Literal[1, 2, 4, 8], BeforeValidator(_number)] = Field(
        1, description="The mean over so many turned and mirrored pictures."
    )


class Options(Choices):
    """The query fields of a request; unknown ones are refused."""

    hole: HoleColour = Field("white", description="Colour of the hole in the mask.")
    threshold: float = Field(0.5, gt=0, lt=1, description="Mask values beyond it, towards the hole's colour, are hole.")
    grow: int = Field(0, ge=0, le=MOST_PIXELS, description="Pixels by which the hole is widened.", examples=[4])
    feather: int = Field(0, ge=0, le=MOST_PIXELS, description="Pixels of what grow added over which is blended.", examples=[3])
    format: Literal["png", "jpeg", "webp", "tiff", "bmp"] | None = Field(
        None, description="Format of the answer; by default the picture's own, and PNG where that is not written."
    )

    @property
    def choices(self) -> Choices:
        return Choices(detail=self.detail, strategy=self.strategy, passes=self.passes)

    def mask_options(self, *, transparency: bool = False) -> MaskOptions:
        """How the mask is read; ``hole`` has no say where transparency is the mask."""
        hole = "white" if transparency else self.hole
        return MaskOptions(hole, self.threshold, self.grow, min(self.feather, self.grow))

    @property
    def notes(self) -> tuple[str, ...]:
        if self.feather <= self.grow:
            return ()
        return (beyond_grow(self.feather, self.grow),)
