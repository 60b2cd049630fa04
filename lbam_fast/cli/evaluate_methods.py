"""The methods of ``lbam-fast evaluate`` by name, as ``lbam``, ``lbam=weights.pth,detail=off``, ``telea``, ``pconv=FILE``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbam_fast.cli.common import ArgumentError

if TYPE_CHECKING:
    from lbam_fast.evaluation import Named

LBAM = "lbam"
LBAM_OPTIONS: dict[str, type] = {"preset": str, "detail": str, "passes": int, "strategy": str}
NETWORKS: dict[str, dict[str, type]] = {
    "global-local": {"dialect": str, "blending": str},
    "contextual-attention": {"dialect": str},
    "pconv": {"dialect": str},
}


def named_methods(texts: Sequence[str], device: str) -> tuple[dict[str, Named], list[str]]:
    """The methods by their text; without any, this project's network and all without learning, with a note on each left out.

    Raises ArgumentError, or what loading weights raises.
    """
    from lbam_fast.evaluation import available_rivals

    without_learning, notes = available_rivals()
    if not texts:
        texts, told = (LBAM, *(name.lower() for name in without_learning)), notes
    else:
        told = []
    return {text: _named(text, device) for text in dict.fromkeys(texts)}, told


def _named(text: str, device: str) -> Named:
    from lbam_fast.evaluation import RIVALS

    first, *options = text.split(",")
    name, _, file = first.partition("=")
    weights = Path(file) if file else None
    if name == LBAM:
        return _lbam(weights, _chosen(name, options, LBAM_OPTIONS), device)
    if name in NETWORKS:
        return _network(name, weights, _chosen(name, options, NETWORKS[name]), device)
    classical = {each.lower(): each for each in RIVALS}
    if name not in classical:
        raise ArgumentError(f"there is no method {name!r}; expected one of {', '.join((LBAM, *classical, *NETWORKS))}")
    if weights or options:
        raise ArgumentError(f"--method {text}: {name} takes neither weights nor options")
    return _without_learning(classical[name])


def _chosen(method: str, options: Sequence[str], kinds: Mapping[str, type]) -> dict[str, Any]:
    """The options NAME=VALUE as keywords, each of its kind."""
    chosen = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in kinds or not value or (kinds[name] is int and not value.isdigit()):
            raise ArgumentError(f"{option!r} is no option of {method}; expected {', '.join(f'{each}=...' for each in kinds)}")
        chosen[name] = kinds[name](value)
    return chosen


def _without_learning(name: str) -> Named:
    from lbam_fast import __version__
    from lbam_fast.evaluation import Named, available_rivals

    found, missing = available_rivals([name])
    if missing:
        raise ArgumentError(missing[0])
    return Named(found[name], f"{name} {__version__}")


def _lbam(weights: Path | None, options: dict[str, Any], device: str) -> Named:
    from lbam_fast import __version__
    from lbam_fast.evaluation import Named
    from lbam_fast.inference import Inpainter, embedded_weights

    inpainter = Inpainter.from_pretrained(weights, device=device, **options)
    return Named(inpainter, f"{LBAM} {__version__} {sorted(options.items())} {_checksum(weights or embedded_weights())}")


def _network(name: str, weights: Path | None, options: dict[str, Any], device: str) -> Named:
    from lbam_fast import __version__
    from lbam_fast.devices import resolve_device
    from lbam_fast.evaluation import Named
    from lbam_fast.evaluation.rivals.adapter import NetworkMethod
    from lbam_fast.evaluation.rivals.checkpoints import load_rival

    dialect = options.pop("dialect", None)
    rival = load_rival(name, weights, dialect=dialect)
    method = NetworkMethod(rival, resolve_device(device), **options)
    return Named(method, f"{name} {__version__} {dialect} {sorted(options.items())} {_checksum(weights)}")


def _checksum(path: Path | None) -> str:
    """Of a file, or of all in a folder."""
    files = [] if path is None else sorted(path.rglob("*")) if path.is_dir() else [path]
    content = hashlib.sha256()
    for file in files:
        if file.is_file():
            content.update(file.read_bytes())
    return content.hexdigest()
