"""Images in, images out: any size, kind and number, with known pixels untouched."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbam_fast import ops
from lbam_fast.checkpoints import load_checkpoint
from lbam_fast.config import HoleColour
from lbam_fast.devices import resolve_device
from lbam_fast.inference.batches import listed_images, listed_masks
from lbam_fast.inference.detail import NARROW, Detail, Detailer
from lbam_fast.inference.errors import InpaintError
from lbam_fast.inference.layouts import Array, Canvas, emptied, read_image
from lbam_fast.inference.mask_values import mask_values
from lbam_fast.inference.masks import Hole, MaskOptions, find_hole, oddity, same_size_expected
from lbam_fast.inference.memory import (
    BYTES_PER_PIXEL,
    bytes_per_pixel,
    explaining_lack_of_memory,
    memory_needed,
    padded_pixels,
    padded_size,
    usable_memory,
    weight_bytes,
)
from lbam_fast.inference.padding import put_padded, put_trend
from lbam_fast.inference.parts import SQUARE, BoxFiller, PartFiller
from lbam_fast.inference.pasting import paste
from lbam_fast.inference.recurring import Recurring
from lbam_fast.inference.speck_filler import SpeckFiller
from lbam_fast.inference.strategies import Plan, PlanOptions, Strategy, plan
from lbam_fast.inference.transfers import download, upload
from lbam_fast.model import LBAM
from lbam_fast.pictures import MAX_PIXELS
from lbam_fast.reference import MULTIPLE

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EMBEDDED = "lbam_narrow.safetensors"
PIXELS_AT_ONCE = 1 << 22
PIXELS_ON_CPU, SHARING_ON_CPU = (1 << 20) - 1, (9 << 18) - 1
"""In one call, the second of pictures under one mask whose maps are kept. From more on, the kernels spare memory, which takes
longer than several pictures at once save."""
AT_ONCE, WIDE_AT_ONCE = 4, 8
"""Pictures in one call by default, the second of a wide network under one mask, most of whose time goes into reading weights."""
PASSES = (1, 2, 4, 8)
ROWS_AT_ONCE = 64


class Inpainter:
    """Fills holes in pictures with an LBAM network.

    >>> inpainter = Inpainter.from_pretrained()
    >>> filled = inpainter(image, mask)            # PIL, NumPy or torch; one picture or many; the mask's holes are white

    Known pixels come back identical to the bit. What lies in a hole has no influence, be it NaN. Pictures of any size are
    padded by reflection to the network's multiple of 128 and cropped back, never resized. Calls from several threads are safe.
    """

    def __init__(
        self,
        model: LBAM,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        hole: HoleColour = "white",
        threshold: float = 0.5,
        grow: int = 0,
        feather: int = 0,
        batch_size: int | None = None,
        passes: int = 1,
        detail: Detail = "auto",
        strategy: Strategy = "auto",
        max_pixels: int = MAX_PIXELS,
        keep_maps: bool = True,
    ) -> None:
        """``model`` is moved to ``device`` ("auto": the GPU if there is one) and put into ``eval()``.

        dtype float32 and float64 convert the weights; bfloat16 and float16 run under autocast. hole, threshold, grow and feather:
        see MaskOptions. batch_size: how many pictures of equal size run at most at once, fewer if large; by default 4, on a CPU
        under one mask 8 for a base width beyond 32. passes: 1, 2, 4 or 8; the mean of so many results, of the picture as it is,
        mirrored, turned and transposed, in so many times the time. detail: "exemplar" lays texture of the known pixels over what
        the network has filled, "off" leaves it smooth; "auto" does it for networks of a base width up to 32, which leave texture
        out, but in holes whose pixels nearly all touch known ones, and for others in holes up to 8 pixels from border to middle,
        which they blur; not where the compiled kernels are missing, with one notice. strategy: "whole" fills a picture in one
        pass; "resize" at 1024 pixels on its longer side at most; "crop" in boxes around its holes; "tile" in boxes too, larger
        ones in overlapping tiles; "auto" chooses, "whole" up to 1024x1024 pixels; ``plan`` says what, and why. max_pixels: PIL
        images of more are refused before they are decoded. keep_maps: on a CPU, attention maps of masks that come again are kept,
        some 256 MB in all; the same results, in two thirds of the time for a wide network.
        Raises InpaintError, or ConfigError for the device.
        """
        self.options = MaskOptions(hole, threshold, grow, feather)
        self.dtype = _dtype(dtype)
        self.device = resolve_device(device)
        if batch_size is not None and batch_size < 1:
            raise InpaintError(f"batch_size is {batch_size}, expected at least 1")
        self.batch_size = batch_size or AT_ONCE
        self._sharing_at_once = batch_size or (WIDE_AT_ONCE if model.config.base_width > NARROW else AT_ONCE)
        if passes not in PASSES:
            raise InpaintError(f"passes is {passes}, expected one of {', '.join(map(str, PASSES))}")
        self.passes = passes
        if max_pixels < 1:
            raise InpaintError(f"max_pixels is {max_pixels}, expected at least 1")
        self.max_pixels = max_pixels
        self.detailer = Detailer(detail, model.config.base_width)
        weights = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.model = model.to(self.device, weights).eval()
        self._weight_bytes = weight_bytes(self.model)
        needed = bytes_per_pixel(self.model)
        self._plan_options = PlanOptions(
            strategy,
            bytes_per_pixel=needed,
            memory=usable_memory(self.device),
            specks=model.config.base == "harmonic",  # whose fill of a speck hangs on the nearest pixels
        )
        self._plans: WeakKeyDictionary[Hole, Plan] = WeakKeyDictionary()
        self._keep_maps, self._recurring = keep_maps, Recurring()
        if self.device.type == "cuda":  # on a CPU filters are packed from any layout
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, *, preset: str | None = None, **options: Any) -> Inpainter:
        """With the weights in ``path``, or the narrow network that ships in the package; options as for the constructor.

        ``preset`` names the network of a file that could be several. Raises CheckpointError or InpaintError.
        """
        return cls(load_checkpoint(path or embedded_weights(), preset), **options)

    def __getstate__(self) -> dict[str, Any]:
        """All but the plans at hand, so that another process can have a copy."""
        return vars(self) | {"_plans": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _plans=WeakKeyDictionary())

    def __call__(self, image: Any, mask: Any) -> Any:
        """Fill the holes of one picture, or of many under a mask each or one mask for all.

        image  a PIL image (L, LA, RGB, RGBA, I;16 in any byte order; palette, CMYK and others come back as RGB, a transparent
               colour of L and RGB as an opacity), an array [H, W] or [H, W, C] or a tensor [C, H, W], uint8, uint16 or floating
               in [0, 1], C from 1 to 4 with alpha in 2 and 4 kept as it is; for many: a list of these, an array [N, H, W, C]
               or a tensor [N, C, H, W]
        mask   PIL, array or tensor of the image's height and width, white = hole unless the inpainter was told otherwise: bool,
               floating in [0, 1] or integers of any depth (see docs/formats.md). For all images: [H, W], an array [H, W, C], a
               tensor [1, H, W] or, for a single image, [C, H, W]; one each: [N, H, W], an array [N, H, W, C], a tensor
               [N, C, H, W] or a list. So [N, H, W] for N images is N masks, never one with N channels
        Returns what was given: same type, dtype, shape, layout; a PIL image with its EXIF block, profile and other information.
        Raises InpaintError; warns if a picture is hole all over, and if a mask has no hole.
        """
        images, join = listed_images(image)
        canvases = [read_image(one, self.max_pixels) for one in images]
        holes = self._holes(canvases, listed_masks(mask, [canvas.pixels.shape[:2] for canvas in canvases]))
        filled: list[Array] = [canvas.pixels for canvas in canvases]
        for indices in self.batches(holes):
            results = self.fill([canvases[i].pixels for i in indices], [holes[i] for i in indices])
            for i, pixels in zip(indices, results, strict=True):
                filled[i] = pixels
        return join([canvas.restore(pixels) for canvas, pixels in zip(canvases, filled, strict=True)])

    def fill(self, pictures: Sequence[Array], holes: Sequence[Hole], *, window: int | None = None) -> list[Array]:
        """Fill pictures in holes that are found already, all together in one call of the network for each pass.

        pictures  arrays [H, W, 1 or 3], uint8, uint16 or floating in [0, 1], of one size once padded to multiples of 128; what
                  lies in a hole does not count
        holes     one for each, of its height and width, as ``find_hole`` gives them; if it is the very same for all, what depends
                  on it alone is computed once
        window    pictures are made of squares of that side, parts of different places, each of which gets a trend of its own
        Returns new arrays of the pictures' shapes and dtypes, known pixels the same to the bit. How many fit at once:
        ``batches``. Raises InpaintError.
        """
        return self.begin(pictures, holes, window=window)()

    def begin(
        self, pictures: Sequence[Array], holes: Sequence[Hole], *, window: int | None = None, raw: bool = False
    ) -> Callable[[], list[Array]]:
        """Begin to ``fill``; what is returned gives the results. On a GPU the network may then still be at work, so that the
        next pictures can be sent before these are waited for and finished. raw: of pictures that are filled whole, what the
        network makes of them, float32 [H, W, 3] in [0, 1], in place of results."""
        _check_sizes(pictures, holes)
        plans = [self.plan(hole) for hole in holes]
        if any(each.strategy != "whole" for each in plans):
            results = [self._in_parts(*each) for each in zip(pictures, holes, plans, strict=True)]
            return lambda: results
        height, width = pictures[0].shape[:2]
        lack = explaining_lack_of_memory(self.model, self._weight_bytes, self.device, len(pictures), height, width)
        with lack, torch.inference_mode(), self._autocast():
            given, key = self._given(pictures, holes, window), self._mask_key(holes)
            output = self.model(**given, mask_key=key)
            for turn in range(1, self.passes):
                turned_key = None if key is None else (turn, key)
                again = self.model(**{name: turned(x, turn) for name, x in given.items()}, mask_key=turned_key)
                output = output + turned_back(again, turn)
            mean = output / self.passes if self.passes > 1 else output
            padded = download(mean.permute(0, 2, 3, 1).float())

        def finish() -> list[Array]:
            outputs = [output[: len(pixels), : pixels.shape[1]] for output, pixels in zip(padded(), pictures, strict=True)]
            return outputs if raw else self._finished(pictures, outputs, holes)

        return finish

    def fill_into(self, result: Array, pixels: Array, hole: Hole, rest: Callable[[], None] = lambda: None) -> Plan:
        """Fill a picture too large for memory in boxes around its holes, larger ones in tiles; gives how.

        result  a copy of the picture that is written to, such as a mapped file
        pixels  the picture [H, W, 1 or 3]; ``hole`` as for ``fill``; any of them may be mapped files
        rest    is called between regions, to give memory back
        """
        how = plan(hole.filled, dataclasses.replace(self._plan_options, strategy="tile"))
        self._part_filler().into(result, pixels, hole, how, rest)
        return how

    def plan(self, hole: Hole) -> Plan:
        """How a picture with that hole is filled, and why; found once for each hole."""
        found = self._plans.get(hole)
        if found is None:
            found = self._plans[hole] = plan(hole.filled, self._plan_options)
        return found

    def examine(self, hole: Hole) -> None:
        """Find out ahead, on another thread, what ``fill`` asks about a hole, which is found once for each: so that between two
        calls of the network no time goes into it."""
        if self.plan(hole).strategy == "whole":
            self.detailer.wanted(hole)
        if self._keep_maps and self.device.type == "cpu":
            _ = hole.content

    def batches(self, holes: Sequence[Hole], *, pixels_on_cpu: int = PIXELS_ON_CPU) -> list[list[int]]:
        """Indices of the holes that fill anything, those of one padded size together, as many as ``fill`` should get at once.

        pixels_on_cpu: of a batch on a CPU at most, unless its pictures are under one mask.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, hole in enumerate(holes):
            if hole.filled.any():
                groups[padded_size(*hole.filled.shape)].append(i)
        found = []
        for (height, width), group in groups.items():
            size = self._at_once([holes[i] for i in group], height, width, pixels_on_cpu)
            found += [group[start : start + size] for start in range(0, len(group), size)]
        return found

    def _at_once(self, holes: Sequence[Hole], height: int, width: int, pixels_on_cpu: int) -> int:
        """How many pictures of that padded size with these holes ``fill`` should get at once."""
        on_cpu, pixels = self.device.type == "cpu", height * width
        if on_cpu and self._keep_maps and len(_distinct(holes)) < len(holes):
            count = min(self._sharing_at_once, PIXELS_AT_ONCE // pixels, SHARING_ON_CPU // pixels)
            memory = self._plan_options.memory
            if memory is None or memory_needed(self.model, self._weight_bytes, count, height, width) <= memory:
                return max(1, count)
        most = min(PIXELS_AT_ONCE, pixels_on_cpu) if on_cpu else PIXELS_AT_ONCE
        return max(1, min(self.batch_size, most // pixels))

    def memory_needed(self, holes: Sequence[Hole]) -> int:
        """Bytes that filling pictures with these holes at once takes at its highest, roughly, weights included."""
        height, width = holes[0].filled.shape
        if all(self.plan(hole).strategy == "whole" for hole in holes):
            return memory_needed(self.model, self._weight_bytes, len(holes), height, width)
        return (
            memory_needed(self.model, self._weight_bytes, 1, *SQUARE)
            + len(holes) * padded_pixels(height, width) * BYTES_PER_PIXEL
        )

    def free_memory(self) -> None:
        """Give back what is kept from call to call; it is made again when it is needed."""
        ops.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _holes(self, canvases: list[Canvas], masks: list[Any]) -> list[Hole]:
        holes, sentences = [], []
        for mask in masks:
            values = mask_values(mask, self.options.hole, self.max_pixels)
            holes.append(find_hole(values, self.options))
            sentences.append(oddity(values, holes[-1], self.options, f"{self.options.hole} = hole"))
        if len(holes) == 1:
            holes *= len(canvases)
        for canvas, hole in zip(canvases, holes, strict=True):
            _check(canvas, hole, self.options.hole)
        for sentence in filter(None, sentences):
            warnings.warn(sentence, stacklevel=3)
        return holes

    def _given(self, pictures: Sequence[Array], holes: Sequence[Hole], window: int | None) -> dict[str, Tensor]:
        """What the network gets, padded: images, their mask or masks, and where they are of use the images' trend and where the
        result is needed."""
        size = padded_size(*pictures[0].shape[:2])
        distinct = _distinct(holes)

        def batch(count: int, channels: int) -> Tensor:
            dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
            return torch.empty(count, channels, *size, dtype=dtype, device=self.device, memory_format=torch.channels_last)

        given = {"image": batch(len(pictures), 3), "mask": batch(len(distinct), 1)}
        for image, pixels, hole in zip(given["image"], pictures, holes, strict=True):
            put_padded(image, self._uploaded(np.moveaxis(emptied(pixels, hole), -1, 0)))
        for mask, hole in zip(given["mask"], distinct, strict=True):
            put_padded(mask, self._uploaded(~hole.filled[None]))
        if self.device.type == "cpu":  # elsewhere all of it is computed
            needed = np.zeros((len(distinct), 1, *size), np.bool_)
            for place, hole in zip(needed[:, 0], distinct, strict=True):
                height, width = hole.filled.shape
                place[:height, :width] = hole.filled
            given["needed"] = torch.from_numpy(needed)
        if self.model.config.base == "harmonic":
            given["trend"] = batch(len(pictures), 3)
            masks = given["mask"].expand(len(pictures), -1, -1, -1)
            for trend, image, mask, hole in zip(given["trend"], given["image"], masks, holes, strict=True):
                height, width = hole.filled.shape
                put_trend(trend, image[:, :height, :width], mask[:, :height, :width], window)
        return given

    def _mask_key(self, holes: Sequence[Hole]) -> Hashable:
        """What stands for a mask whose maps are worth keeping: pictures share it, or it comes again."""
        if not self._keep_maps or self.device.type != "cpu" or len(_distinct(holes)) > 1:
            return None
        content = holes[0].content
        return content if self._recurring(content) or len(holes) > 1 else None

    def _finished(self, pictures: Sequence[Array], outputs: Sequence[NDArray[np.float32]], holes: Sequence[Hole]) -> list[Array]:
        """Pictures with the network's outputs in their holes: grey if they are grey, and with texture where that is wanted."""
        for pixels, output, hole in zip(pictures, outputs, holes, strict=True):
            if _is_grey(pixels, hole):
                region = output[hole.box]
                region[:] = region.mean(axis=-1, keepdims=True)
        textured = self.detailer.several(pictures, outputs, holes)
        return [paste(*each) for each in zip(pictures, textured, holes, strict=True)]

    def _in_parts(self, pixels: Array, hole: Hole, plan: Plan) -> Array:
        if plan.strategy == "whole":
            return self._whole(self.detailer).fill([pixels], [hole])[0]
        return self._part_filler()(pixels, hole, plan)

    def _part_filler(self) -> PartFiller:
        textured, smooth = self._whole(self.detailer), self._whole(Detailer("off", 0))

        def outputs(pictures: Sequence[Array], holes: Sequence[Hole]) -> list[NDArray[np.float32]]:
            return textured.begin(pictures, holes, raw=True)()

        def sheet(pixels: Array, hole: Hole, window: int) -> Array:
            return smooth.fill([pixels], [hole], window=window)[0]

        boxes = BoxFiller(outputs, self._finished)
        return PartFiller(textured.fill, boxes, SpeckFiller(sheet, self.detailer), smooth.fill, self.detailer)

    def _whole(self, detailer: Detailer) -> Inpainter:
        """One for the parts of pictures, which fills each in one pass."""
        other = copy.copy(self)
        other._recurring = self._recurring
        other.detailer, other._plan_options, other._plans = detailer, PlanOptions("whole"), WeakKeyDictionary()
        return other

    def _uploaded(self, array: Array) -> Tensor:
        return upload(array, self.device, torch.float64 if self.dtype == torch.float64 else torch.float32)

    def _autocast(self) -> torch.autocast:
        low = self.dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(self.device.type, self.dtype if low else None, enabled=low)


def embedded_weights() -> Path:
    """The file of the narrow network that ships in the package."""
    return Path(str(resources.files("lbam_fast") / "weights" / EMBEDDED))


def _distinct(holes: Sequence[Hole]) -> Sequence[Hole]:
    """One if they are the very same, else all."""
    return holes[:1] if all(hole is holes[0] for hole in holes) else holes


def turned(x: Tensor, turn: int) -> Tensor:
    """[N, C, H, W] in one of its eight positions: bit 2 of ``turn`` transposes, then bit 0 mirrors, bit 1 turns upside down."""
    x = x.transpose(2, 3) if turn & 4 else x
    return _flipped(x, turn)


def turned_back(x: Tensor, turn: int) -> Tensor:
    x = _flipped(x, turn)
    return x.transpose(2, 3) if turn & 4 else x


def _flipped(x: Tensor, turn: int) -> Tensor:
    axes = [axis for bit, axis in ((1, 3), (2, 2)) if turn & bit]
    return x.flip(axes) if axes else x


def _is_grey(pixels: Array, hole: Hole) -> bool:
    """Whether all known pixels of [H, W, 3] are grey, so that what fills the hole must be too."""
    if pixels.shape[-1] != 3:
        return False
    for start in range(0, len(pixels), ROWS_AT_ONCE):  # most pictures show their colours in the first
        rows = slice(start, start + ROWS_AT_ONCE)
        red, green, blue = np.moveaxis(pixels[rows], -1, 0)
        if (((red != green) | (red != blue)) & ~hole.filled[rows]).any():
            return False
    return True


def _check_sizes(pictures: Sequence[Array], holes: Sequence[Hole]) -> None:
    shapes, hole_shapes = [pixels.shape[:2] for pixels in pictures], [hole.filled.shape for hole in holes]
    if shapes != hole_shapes or len({padded_size(*shape) for shape in shapes}) != 1:
        raise InpaintError(
            f"{len(pictures)} pictures of the sizes {sorted(set(shapes))} (height, width) and {len(holes)} holes of "
            f"{sorted(set(hole_shapes))}: expected a hole for each picture, all of one size once padded to {MULTIPLE}s"
        )


def _check(canvas: Canvas, hole: Hole, colour: HoleColour) -> None:
    height, width = canvas.pixels.shape[:2]
    if hole.filled.shape != (height, width):
        mask_height, mask_width = hole.filled.shape
        raise InpaintError(
            f"the mask is {mask_width}x{mask_height} (width x height), the image {width}x{height}"
            + same_size_expected(hole.filled.shape, (height, width), canvas.turned, f"{colour} = hole")
        )
    if np.issubdtype(canvas.pixels.dtype, np.floating):
        if canvas.pixels.min() >= -canvas.tolerance and canvas.pixels.max() <= 1 + canvas.tolerance:
            return
        known = canvas.pixels[hole.weight < 1]  # with the band that feathering blends
        if not np.isfinite(known).all():
            raise InpaintError("known pixels hold NaN or infinity: expected numbers in [0, 1]; mark such pixels as holes")
        if known.size and (known.min() < -canvas.tolerance or known.max() > 1 + canvas.tolerance):
            raise InpaintError(
                f"known pixels reach from {known.min():.9g} to {known.max():.9g}: expected [0, 1]; "
                "divide 8-bit values by 255, or pass uint8"
            )


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise InpaintError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    return found
