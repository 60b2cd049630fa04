"""What does the jobs of ``lbam-fast inpaint``: this process, one for each of several devices, or the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbam_fast.batch.addresses import address_of
from lbam_fast.cli.common import ArgumentError, print_warning, set_threads

if TYPE_CHECKING:
    from lbam_fast.batch import Event, Filler, Journal, VideoEvent

Fill = Callable[..., "Iterator[Event | VideoEvent]"]
"""Takes jobs and options and gives events, as ``Filler.fill``."""


@dataclass(frozen=True)
class Choice:
    """Which engine is asked for: by its name, with the options that say where it works."""

    name: str
    address: str | None
    workers: int | None
    device: str
    threads: int | None

    def check(self, output: Path, precision: str | None, further: bool) -> None:
        """Raises ArgumentError for options that do not go with the engine. further: whether results that exist are skipped."""
        there = address_of(output)
        if self.name == "local":
            for option, value in (("--address", self.address), ("--workers", self.workers)):
                if value is not None:
                    raise ArgumentError(f"{option} {value} goes with --engine ray; --device names the devices of this machine")
            if there is not None:
                raise ArgumentError(f"{there}: results go to an address with --engine ray alone; name a file or folder")
            return
        if self.threads is not None:
            raise ArgumentError("--threads goes with --engine local: Ray gives each worker its cores, --workers says how many")
        if precision == "auto":
            raise ArgumentError("--precision auto goes with --engine local, as workers differ: name fp32, bf16 or fp16")
        if there is not None and further:
            raise ArgumentError(f"{there}: --resume and --skip-existing go with a folder, not with an address")


@dataclass(frozen=True)
class Engine:
    """Something that does jobs.

    filler   of this process, which looks at files before the work, and may be what does it
    devices  what it works on, in words
    kind     the type of device
    fill     does them
    """

    filler: Filler
    devices: str
    kind: str
    fill: Fill

    def journal(self, output: Path, weights: Path | None, choices: dict[str, Any]) -> Journal:
        """The output folder's, for runs with these options and that network, whoever does them."""
        from lbam_fast import __version__
        from lbam_fast.batch import Journal, fingerprint
        from lbam_fast.inference import embedded_weights

        ran = {"weights": weights or embedded_weights(), "device": self.kind, "batch_size": self.filler.inpainter.batch_size}
        return Journal(output, fingerprint({**choices, **ran, "version": __version__}))


@contextlib.contextmanager
def running(
    choice: Choice, count: int, weights: Path | None, max_memory: int | None, options: dict[str, Any]
) -> Iterator[Engine]:
    """The engine for so many jobs, with the network of those weights and options, whose warnings are printed."""
    set_threads(choice.threads)
    if choice.name == "local":
        yield _local(choice, count, weights, max_memory, options)
        return
    from lbam_fast.batch.ray import connected
    from lbam_fast.batch.recipes import Recipe

    with connected(choice.address, workers=choice.workers, device=choice.device) as cluster:
        with _warnings_printed():
            recipe = Recipe.from_pretrained(weights, max_memory=max_memory, **options)
        kind = cluster.places.device
        fill = functools.partial(cluster.fill, recipe)
        yield Engine(recipe.filler("cpu"), f"{cluster.places.workers} x {kind}", kind, fill)


def _local(choice: Choice, count: int, weights: Path | None, max_memory: int | None, options: dict[str, Any]) -> Engine:
    from lbam_fast.batch import Filler
    from lbam_fast.batch.planning import WINDOW
    from lbam_fast.batch.processes import devices_of, fill_on
    from lbam_fast.batch.recipes import Recipe
    from lbam_fast.inference import Inpainter

    devices = devices_of(choice.device)
    kinds = {device.partition(":")[0] for device in devices}
    if len(kinds) > 1:
        raise ArgumentError(f"--device {choice.device}: results differ between kinds of devices; name one kind")
    with _warnings_printed():
        if len(devices) > 1 and count > WINDOW:
            recipe = Recipe.from_pretrained(weights, max_memory=max_memory, **options)
            fill = functools.partial(fill_on, devices, recipe)
            return Engine(recipe.filler("cpu"), ", ".join(devices), kinds.pop(), fill)
        device = devices[0] if "," in choice.device else choice.device
        filler = Filler(Inpainter.from_pretrained(weights, device=device, **options), max_memory=max_memory)
    return Engine(filler, str(filler.inpainter.device), filler.inpainter.device.type, filler.fill)


@contextlib.contextmanager
def _warnings_printed() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        print_warning(str(warning.message))
