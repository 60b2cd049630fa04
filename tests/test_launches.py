"""What a forward pass launches on a GPU, counted on a CPU: the GPU path's own code, with kernels that are counted, not run."""

import pytest
import torch
from interpreted import as_on_a_gpu  # noqa: F401 - applies itself
from networks import images, masks, network, one_thread  # noqa: F401 - applies itself
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor

import lbam_fast
from lbam_fast.ops import autotune, definitions
from lbam_fast.ops.backends import triton

FRESH, WITH_MAPS = 25, 16
"""20 and 14 ops; the network's input, of a fresh mask the holes and the casts of both; the counters of layers that are split."""
COUNTERS = "aten::zeros"
IDLE = ("aten::empty", "aten::new_empty", "aten::detach", "aten::alias", "aten::promote_types")


class Launches(TorchDispatchMode):
    """Names of what computes or copies: PyTorch's own ops, those inside our ops too, and kernels; and what casts or copies them.

    parameters  tensors by the address of their memory: ops that read these are noted
    """

    def __init__(self, parameters=()):
        super().__init__()
        self.names, self.of_parameters = [], []
        self.parameters = {x.untyped_storage().data_ptr() for x in parameters}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        if name.startswith("lbam::"):
            op = name.removeprefix("lbam::")
            with self:
                return getattr(triton, op)(*getattr(definitions, op).signature.bundle(args))
        result = function(*args, **(kwargs or {}))
        if not function.is_view and not name.startswith(IDLE) and not self.idle(name, args, result):
            self.names.append(name)
            given = [x for x in args if isinstance(x, torch.Tensor)]
            if any(x.untyped_storage().data_ptr() in self.parameters for x in given):
                self.of_parameters.append(name)
        return result

    @staticmethod
    def idle(name, args, result):
        """Whether a copy was asked for that was none."""
        return name == "aten::_to_copy" and result.data_ptr() == args[0].data_ptr()


@pytest.fixture
def counting(monkeypatch):
    """A counter that is told of kernels, which do nothing."""
    counter = []

    def call(self, *args, **options):
        if counter:
            counter[-1].names.append(self.fn.__name__)

    monkeypatch.setattr(GridExecutor, "__call__", call)
    return counter


def launched(counter, model, call):
    counter.append(Launches(model.parameters()))
    with counter[-1]:
        call()
    return counter[-1]


@pytest.mark.parametrize("low", [True, False])
def test_a_forward_pass(low, counting):
    """In bfloat16 under autocast, and in float32, whose filters would be copied into another layout."""
    model = network(width=64, dtype=torch.float32)
    image, mask = images(1, 256, 256).float(), masks("irregular", height=256, width=256)[:, :1].float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=low), lbam_fast.backend("triton"):
        launched(counting, model, lambda: model(image, mask))
        fresh = launched(counting, model, lambda: model(image, mask))
        counting.append(Launches())
        maps = model.attention_maps(mask)
        launched(counting, model, lambda: model(image, maps=maps))
        given = launched(counting, model, lambda: model(image, maps=maps))
    for found, most in ((fresh.names, FRESH), (given.names, WITH_MAPS)):
        assert len(found) <= most and found.count(COUNTERS) == 1, found
    assert not fresh.of_parameters and not given.of_parameters


@pytest.mark.parametrize("preset", ["official", "harmonic"])
def test_every_layer_is_one_kernel(preset, counting):
    """The first one too, whose picture has 6 channels and whose mask has one where a base is corrected."""
    model = network(preset, width=8, dtype=torch.float32)
    image, mask = images(1, 256, 256).float(), masks("irregular", height=256, width=256)[:, :1].float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), autotune.route("kernel"), lbam_fast.backend("triton"):
        fresh = launched(counting, model, lambda: model(image, mask)).names
        counting.append(Launches())
        maps = model.attention_maps(mask)
        given = launched(counting, model, lambda: model(image, maps=maps)).names
    for names, encoders in ((fresh, 13), (given, 7)):
        kernels = [name for name in names if name.startswith("_")]
        assert kernels == ["_encode"] * encoders + ["_decode_with_map"] * 6 + ["_reconstruct"]


def test_a_cast_of_a_parameter_is_seen(counting):
    model = network(width=8, dtype=torch.float32)
    image, mask = images(1, 256, 256).float(), masks("irregular", height=256, width=256)[:, :1].float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), lbam_fast.backend("triton"):
        model(image, mask)
        model.ec3.conv.conv.weight.mul_(1.1)
        assert launched(counting, model, lambda: model(image, mask)).of_parameters == ["aten::_to_copy"]
