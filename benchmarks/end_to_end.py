"""One picture from bytes to bytes: what a person waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from exported import Call
from harness import Candidate, Method
from numpy.typing import NDArray
from peers import HALVES, OURS, inference_methods, our_model, truth, yardstick
from torch import Tensor
from workload import Case, Inputs

from lbam_fast import Inpainter

Pixels = NDArray[Any]


def as_pictures(pool: Inputs) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The first image of each of the inputs [H, W, 3] and its mask [H, W] with 255 = hole."""
    pictures = []
    for image, mask in pool:
        pixels = (image[0].permute(1, 2, 0) * 255).round().to("cpu", torch.uint8).numpy()
        pictures.append((np.ascontiguousarray(pixels), ((1 - mask[0, 0]) * 255).to("cpu", torch.uint8).numpy()))
    return pictures


def latency_methods(case: Case) -> list[Method]:
    """Every peer with the conversions around it, the eager ones in the quick set, and ``lbam_fast.Inpainter``."""
    wrapped = [_around(method) for method in inference_methods(case) if not method.ours]
    dtypes = {method.dtype for method in wrapped} & {"fp32", *HALVES}
    ours = [Method(f"lbam_fast {dtype}", dtype, partial(_inpainter, dtype=dtype), **OURS) for dtype in sorted(dtypes)]
    return [*wrapped[:1], *ours[::-1], *wrapped[1:]]


def pasted_truth(case: Case, pool: Inputs) -> Tensor:
    """The float64 output with the known pixels pasted: [H, W, 3]."""
    return _pasted(truth(case, _quantised(pool)), _quantised(pool))


def pasted_yardstick(case: Case, pool: Inputs, dtype: str) -> Tensor:
    """Eager PyTorch's output likewise."""
    return _pasted(yardstick(case, _quantised(pool), dtype), _quantised(pool))


def fill(call: Call, image: Pixels, mask: NDArray[np.uint8], device: str) -> Pixels:
    """What has to be written around a network: pixels [H, W, 3] and mask with 255 = hole, to pixels of the same dtype."""
    pixels = torch.from_numpy(image).to(device)
    known = torch.from_numpy(mask).to(device).eq(0)[None, None]
    unit = (pixels.float() / (255 if image.dtype == np.uint8 else 1)).permute(2, 0, 1)[None].contiguous()
    output = call(unit, known.float()).float()
    output = torch.where(known, unit, output.to(unit.device))[0].permute(1, 2, 0)
    if image.dtype == np.uint8:
        output = (output * 255).round().to(torch.uint8)
    return output.cpu().numpy()


def _around(method: Method) -> Method:
    """The method of whole-model inference between pictures."""

    def build(case: Case, pool: Inputs) -> Candidate:
        # The method's own candidate is bound to its inputs, so it is fed through them.
        box: list[tuple[Tensor, ...]] = [tuple(pool[0])]
        candidate = method.build(case, box)

        def call(image: Tensor, mask: Tensor) -> Tensor:
            box[0] = (image, mask)
            return candidate.output()

        return _candidate(lambda image, mask: fill(call, image, mask, case.device), pool)

    return Method(method.name, method.dtype, build, layout=method.layout, absent=method.absent, quick=method.eager)


def _inpainter(case: Case, pool: Inputs, dtype: str) -> Candidate:
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    ours = Inpainter(our_model(case), device=case.device, dtype=names[dtype], detail="off", keep_maps=False)
    return _candidate(ours, pool)  # keeping nothing of masks, which come again here alone


def _candidate(inpaint: Callable[[Any, Any], Any], pool: Inputs) -> Candidate:
    pictures = as_pictures(pool)

    def output() -> Tensor:
        image, mask = pictures[0]
        return torch.from_numpy(inpaint(image.astype(np.float32) / np.float32(255), mask))

    return Candidate(lambda i: inpaint(*pictures[i % len(pictures)]), output)


def _quantised(pool: Inputs) -> Inputs:
    """The first inputs after their way through 8 bits."""
    image, mask = as_pictures(pool)[0]
    unit = torch.from_numpy(image.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    device = pool[0][0].device
    return [(unit.contiguous().to(device), torch.from_numpy((mask == 0).astype(np.float32))[None, None].to(device))]


def _pasted(output: Tensor, pool: Inputs) -> Tensor:
    image, mask = (tensor.to(output.dtype) for tensor in pool[0])
    return torch.where(mask > 0, image, output)[0].permute(1, 2, 0).cpu()
