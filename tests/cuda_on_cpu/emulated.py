"""The CUDA kernels compiled by g++ for the emulator beside this file, as functions of tensors.

Those that ``ops.backends.eager`` has too take and give the same. Grids are so small that each block has several turns.
LBAM_CUDA_ON_CPU is the path of a library that is built already: with a sanitizer, whose own library is loaded first.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

HERE = Path(__file__).parent
CUDA = HERE.parent.parent / "csrc" / "cuda"
SANITIZERS = {
    "address": (["-fsanitize=address,undefined", "-fno-sanitize=shift"], "libasan.so"),
    "thread": (["-fsanitize=thread"], "libtsan.so"),
}
"""Flags and runtime library. Shifts into the sign bit are left alone: all compilers of CUDA agree on them."""
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
FORMS = {"tanh": 0, "abs": 1}
BLOCKS = 5
COMPILER = shutil.which("g++")


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ.get("LBAM_CUDA_ON_CPU") or str(built()))


@cache
def built(sanitizer: str = "", kernels: bool = True) -> Path:
    """A library of the kernels and, unless for a sanitizer, of their bindings: as ``torch.ops.lbam_native_cuda`` for the CPU.

    Without kernels, of the planted faults alone. The processes of one run of the tests share it.
    """
    shared = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = Path(tempfile.gettempdir(), f"lbam-cuda-on-cpu-{shared}") if shared else Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    library = folder / f"{sanitizer}-{kernels}.so"
    with FileLock(library.with_suffix(".lock")):
        if not library.exists():
            compile_library(library, sanitizer, kernels)
    return library


def compile_library(library: Path, sanitizer: str, kernels: bool) -> None:
    flags = ["-std=c++17", "-O1", "-g1", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    flags += [f"-I{HERE}", f"-DLBAM_CUDA_BLOCKS={BLOCKS}", '-DLBAM_CUDA_KEY="CPU"']
    sources, libraries = [HERE / "emulator.cpp", HERE / "faults.cu"], []
    if kernels:
        sources += sorted(CUDA.glob("*.cu"))
    if sanitizer:
        flags += [*SANITIZERS[sanitizer][0], "-fno-sanitize-recover=all"]
    else:
        sources += [*sorted((CUDA.parent / "binding").glob("cuda*.cpp")), HERE / "torch_on_cpu.cpp"]
        libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu"]

    header = library.with_suffix(".h")  # read once for all of them
    header.write_text(f'#include "{CUDA / "launch.h"}"\n')
    run([COMPILER, *flags, "-x", "c++-header", header, "-o", library.with_suffix(".h.gch")])

    def compiled(source: Path) -> str:
        result = library.with_suffix(f".{source.name}.o")
        run([COMPILER, *flags, "-include", header, "-c", "-x", "c++", source, "-o", result])
        return str(result)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    run([COMPILER, *flags, "-shared", *objects, *libraries, "-o", library])


def run(command: Iterable[object]) -> str:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def sanitized(sanitizer: str, kernels: bool = True) -> dict[str, str]:
    """The environment of a process in which the kernels run under a sanitizer; PyTorch in one thread, which is not checked."""
    runtime = run([COMPILER, f"-print-file-name={SANITIZERS[sanitizer][1]}"]).strip()
    return {
        **os.environ,
        "LBAM_CUDA_ON_CPU": str(built(sanitizer, kernels)),
        "LD_PRELOAD": runtime,
        "PYTHONMALLOC": "malloc",
        "OMP_NUM_THREADS": "1",
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def _pointers(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


def _sizes(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_int64) for name in names.split()]


_TYPE = ("type", ctypes.c_int32)


class Parameters(ctypes.Structure):
    _fields_ = (*_pointers("scalars alpha scale shift"), ("slope", ctypes.c_float))


_PARAMETERS = ("parameters", Parameters)


class Attend(ctypes.Structure):
    _fields_ = (_TYPE, _PARAMETERS, *_pointers("features m y u"), *_sizes("parts positions channels"))


class AttendBackward(ctypes.Structure):
    _fields_ = (
        _TYPE,
        _PARAMETERS,
        *_pointers("dy du features m dfeatures dm dscalars dchannels workspace"),
        *_sizes("positions channels"),
    )


class Statistics(ctypes.Structure):
    _fields_ = (_TYPE, *_pointers("scalars features m mean variance workspace"), *_sizes("positions channels"))


class StatisticsBackward(ctypes.Structure):
    _fields_ = (
        _TYPE,
        *_pointers("scalars dmean dvariance mean features m dfeatures dm dscalars workspace"),
        *_sizes("positions channels"),
    )


class Encode(ctypes.Structure):
    _fields_ = (
        _TYPE,
        _PARAMETERS,
        *_pointers("image mask weight mask_weight y u features m"),
        *_sizes("batch mask_batch height width image_channels mask_channels channels"),
    )


class Reconstruct(ctypes.Structure):
    _fields_ = (
        _TYPE,
        ("form", ctypes.c_int32),
        *_pointers("skip own skip_weight own_weight y"),
        *_sizes("batch height width skip_channels own_channels"),
    )


class ClassifyMask(ctypes.Structure):
    _fields_ = (_TYPE, *_pointers("mask classes"), *_sizes("positions channels"))


class ClassifyNext(ctypes.Structure):
    _fields_ = (*_pointers("classes next"), *_sizes("batch height width"))


class SortedPositions(ctypes.Structure):
    _fields_ = (*_pointers("classes order sorted workspace"), *_sizes("positions"))


def call(op: ctypes.Structure, name: str) -> None:
    status = getattr(library(), f"lbam_cuda_{name}")(ctypes.byref(op), None)
    if status:
        raise RuntimeError(f"{name}: status {status}")


def workspace(name: str, *sizes: int) -> Tensor:
    """To the byte: past its end lies what is not ours."""
    query = getattr(library(), f"lbam_cuda_{name}_workspace")
    query.restype = ctypes.c_int64
    return torch.full((query(*map(ctypes.c_int64, sizes)),), 255, dtype=torch.uint8)


def at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def shifted(x: Tensor) -> Tensor:
    """The same values one element off the alignment that PyTorch gives."""
    result = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
    return result.copy_(x)


class Emulated:
    """``unaligned`` puts each tensor at an address that is no multiple of 16 bytes; ``descending`` runs the last thread first."""

    def __init__(self, unaligned: bool = False, descending: bool = False):
        self.unaligned, self.descending = unaligned, descending

    def _call(self, op: ctypes.Structure, name: str) -> None:
        library().cuda_on_cpu_descending(ctypes.c_bool(self.descending))
        call(op, name)

    def nhwc(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).contiguous()
        return shifted(x) if self.unaligned else x

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        result = torch.full(shape, 77, dtype=dtype) if dtype == torch.uint8 else torch.full(shape, torch.nan, dtype=dtype)
        return shifted(result) if self.unaligned else result

    def like(self, x: Tensor) -> Tensor:
        return self.empty(*x.shape, dtype=x.dtype)

    def attend(self, features, m, gate, affine, update):
        features, m = self.nhwc(features), self.nhwc(m)
        y, u = self.like(features), self.like(m) if update else None
        self._call(
            Attend(
                type=TYPES[features.dtype],
                parameters=Parameters(at(gate.scalars), at(gate.alpha), at(affine.scale), at(affine.shift), affine.slope),
                **{"features": at(features), "m": at(m), "y": at(y), "u": at(u)},
                parts=len(features) // len(m),
                positions=m.numel() // m.shape[3],
                channels=m.shape[3],
            ),
            "attend",
        )
        return nchw(y), m.new_empty(0) if u is None else nchw(u)

    def attend_backward(self, dy, du, features, m, gate, affine):
        features, m, dy = self.nhwc(features), self.nhwc(m), self.nhwc(dy)
        du = None if du is None else self.nhwc(du)
        positions, channels = m.numel() // m.shape[3], m.shape[3]
        dfeatures, dm, dscalars = self.like(features), self.like(m), torch.full((5,), torch.nan)
        dchannels = None if affine.scale is None else torch.full((2, channels), torch.nan)
        space = workspace("backward", positions, channels)
        self._call(
            AttendBackward(
                type=TYPES[features.dtype],
                parameters=Parameters(at(gate.scalars), at(gate.alpha), at(affine.scale), at(affine.shift), affine.slope),
                **{"dy": at(dy), "du": at(du), "features": at(features), "m": at(m), "dfeatures": at(dfeatures), "dm": at(dm)},
                **{"dscalars": at(dscalars), "dchannels": at(dchannels), "workspace": at(space)},
                **{"positions": positions, "channels": channels},
            ),
            "attend_backward",
        )
        empty = gate.scalars.new_empty(0)
        return (
            *(nchw(dfeatures), nchw(dm), dscalars[:4], dscalars[4]),
            *((empty, empty) if dchannels is None else (dchannels[0], dchannels[1])),
        )

    def statistics(self, features, m, scalars):
        features, m = self.nhwc(features), self.nhwc(m)
        positions, channels = m.numel() // m.shape[3], m.shape[3]
        mean, variance = torch.full((2, channels), torch.nan)
        space = workspace("statistics", positions, channels)
        self._call(
            Statistics(
                type=TYPES[features.dtype],
                **{"scalars": at(scalars), "features": at(features), "m": at(m), "mean": at(mean), "variance": at(variance)},
                **{"workspace": at(space), "positions": positions, "channels": channels},
            ),
            "statistics",
        )
        return mean, variance

    def statistics_backward(self, dmean, dvariance, mean, features, m, scalars):
        features, m = self.nhwc(features), self.nhwc(m)
        positions, channels = m.numel() // m.shape[3], m.shape[3]
        dfeatures, dm, dscalars = self.like(features), self.like(m), torch.full((5,), torch.nan)
        space = workspace("backward", positions, channels)
        self._call(
            StatisticsBackward(
                type=TYPES[features.dtype],
                **{"scalars": at(scalars), "dmean": at(dmean), "dvariance": at(dvariance), "mean": at(mean)},
                **{"features": at(features), "m": at(m), "dfeatures": at(dfeatures), "dm": at(dm)},
                **{"dscalars": at(dscalars), "workspace": at(space), "positions": positions, "channels": channels},
            ),
            "statistics_backward",
        )
        return nchw(dfeatures), nchw(dm), dscalars[:4]

    def encode(self, x, u, weight, mask_weight, gate, affine, wanted, regions):
        image, mask, weight, mask_weight = map(self.nhwc, (x, u, weight, mask_weight))
        batch, height, width, image_channels = image.shape
        channels = len(weight)
        shape = (height // 2, width // 2, channels)
        y = self.empty(batch, *shape, dtype=x.dtype)
        new = self.empty(len(mask), *shape, dtype=x.dtype) if wanted.update else None
        features, m = (self.like(y), self.empty(len(mask), *shape, dtype=x.dtype)) if wanted.keep else (None, None)
        self._call(
            Encode(
                type=TYPES[x.dtype],
                parameters=Parameters(at(gate.scalars), at(gate.alpha), at(affine.scale), at(affine.shift), affine.slope),
                **{"image": at(image), "mask": at(mask), "weight": at(weight), "mask_weight": at(mask_weight)},
                **{"y": at(y), "u": at(new), "features": at(features), "m": at(m)},
                **{"batch": batch, "mask_batch": len(mask), "height": height, "width": width},
                **{"image_channels": image_channels, "mask_channels": mask.shape[3], "channels": channels},
            ),
            "encode",
        )
        return tuple(x.new_empty(0) if result is None else nchw(result) for result in (y, new, features, m))

    def reconstruct(self, skip, own, skip_weight, own_weight, form):
        skip, own = None if skip is None else self.nhwc(skip), self.nhwc(own)
        batch, height, width, own_channels = own.shape
        y = self.empty(batch, 2 * height, 2 * width, 3, dtype=own.dtype)
        self._call(
            Reconstruct(
                **{"type": TYPES[own.dtype], "form": FORMS[form], "y": at(y)},
                **{"skip": at(skip), "own": at(own), "skip_weight": at(skip_weight), "own_weight": at(own_weight)},
                **{"batch": batch, "height": height, "width": width},
                **{"skip_channels": 0 if skip is None else skip.shape[3], "own_channels": own_channels},
            ),
            "reconstruct",
        )
        return nchw(y)

    def classify_mask(self, mask: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, H, W]."""
        mask = self.nhwc(mask)
        classes = self.empty(*mask.shape[:3], dtype=torch.uint8)
        op = ClassifyMask(
            **{"type": TYPES[mask.dtype], "mask": at(mask), "classes": at(classes)},
            **{"positions": classes.numel(), "channels": mask.shape[3]},
        )
        self._call(op, "classify_mask")
        return classes

    def classify_next(self, classes: Tensor) -> Tensor:
        batch, height, width = classes.shape
        result = self.empty(batch, height // 2, width // 2, dtype=torch.uint8)
        op = ClassifyNext(classes=at(classes), next=at(result), batch=batch, height=height, width=width)
        self._call(op, "classify_next")
        return result

    def sorted_positions(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        order, kinds = torch.full((classes.numel(),), -1, dtype=torch.int32), self.empty(classes.numel(), dtype=torch.uint8)
        space = workspace("sorted")
        self._call(SortedPositions(at(classes), at(order), at(kinds), at(space), classes.numel()), "sorted_positions")
        return order, kinds


def nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
