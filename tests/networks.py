"""Networks and pictures that the tests share."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from golden import recipe
from torch import Tensor, nn

from lbam_fast import LBAM, PRESETS, LBAMConfig

PRESET_NAMES = tuple(PRESETS)
_SCALARS = {"a": (1.05, 2.0), "mu": (0.8, 2.5), "sigma1": (1.05, 1.8), "sigma2": (1.05, 1.8), "alpha": (0.62, 0.78)}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """For the modules that import it: networks this small lose more time to threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def enliven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random learned scalars, BatchNorm, mask filters of both signs and a last layer that is not 0, so that no term is idle."""
    for name, tensor in model.state_dict().items():
        leaf, g = name.rsplit(".", 1)[-1], recipe.rng(seed, name)
        if leaf in _SCALARS:
            tensor.fill_(g.uniform(*_SCALARS[leaf]))
        elif leaf == "num_batches_tracked" or tensor.dim() == 1 or "maskconv" in name.lower() or not tensor.any():
            tensor.copy_(torch.from_numpy(recipe.weight(seed, name, tuple(tensor.shape))))
    return model


def network(preset: str = "official", seed: int = 0, width: int = 4, dtype: torch.dtype = torch.float64) -> LBAM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LBAM(LBAMConfig.preset(preset, base_width=width))
    return enliven(model, seed).to(dtype).eval()


def images(n: int, height: int = 128, width: int = 128, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.stack([recipe.image(seed + i, height, width) for i in range(n)])).to(dtype)


def masks(*kinds: str, height: int = 128, width: int = 128, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """[len(kinds), 3, height, width], of the kinds that the golden recipe knows."""
    each = [recipe.mask(seed + i, height, width, kind) for i, kind in enumerate(kinds)]
    return torch.from_numpy(np.stack(each)).to(dtype)
