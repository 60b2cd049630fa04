"""What depends on a mask alone, kept while the same mask serves call after call, as for the frames of a video."""

from __future__ import annotations

import threading
import weakref

from torch import Tensor

from lbam_fast.inference.masks import Hole
from lbam_fast.model import LBAM
from lbam_fast.reference import AttentionMaps

MOST = 1 << 29
"""Bytes of maps that are kept."""


class SharedMaps:
    """The maps of the hole that served last, made at its second use. Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hole: weakref.ref[Hole] | None = None
        self._marks: tuple[tuple[int, int], ...] = ()
        self._maps: AttentionMaps | None = None

    def of(self, model: LBAM, hole: Hole, mask: Tensor) -> AttentionMaps | None:
        """The network's maps of that hole, whose padded mask is [1, 1, H, W]; None at first, and where they are too large."""
        marks = tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters())
        with self._lock:
            again = self._hole is not None and self._hole() is hole and self._marks == marks
            if not again:
                self._hole, self._marks, self._maps = weakref.ref(hole), marks, None
                return None
            if self._maps is not None:
                return self._maps
        maps = model.attention_maps(mask)
        tensors = (maps.mask, *maps.forward, *maps.reverse, *maps.known)
        if sum(each.numel() * each.element_size() for each in tensors) > MOST:
            return None
        with self._lock:
            if self._hole is not None and self._hole() is hole:
                self._maps = maps
        return maps

    def clear(self) -> None:
        with self._lock:
            self._hole = self._maps = None
