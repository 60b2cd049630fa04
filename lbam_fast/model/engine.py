"""The generator without gradients: prepared parameters, memory used twice, recorded calls.

``lbam_fast.reference`` specifies what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from lbam_fast import ops
from lbam_fast.config import LBAMConfig
from lbam_fast.model.parameters import FORWARD, REVERSE, Chain, Parameters
from lbam_fast.ops import Session, Wanted
from lbam_fast.reference import LEVELS, AttentionMaps

_Skip = Tensor | Callable[[], Tensor]
"""An encoder layer's output for the decoder, or what makes it again."""


class Engine:
    """Runs a network in ``eval()`` on a state dict in the modules' names; what it prepares, the session keeps.

    On the compiled kernels for the CPU layers are called at once, round filters themselves, and their results may take the memory
    of maps that nobody else has; elsewhere they are called by the ops, with filters that were cast once.
    """

    def __init__(self, state: Mapping[str, Tensor], config: LBAMConfig, session: Session) -> None:
        self._state, self._config, self._session = state, config, session
        last = state["dc7.weight"]
        self._device, dtype = last.device.type, ops.working_dtype(last)
        on_kernels = ops.chosen(last.device, dtype) == ops.CPU
        # In a user's own graph they are made anew, so that its replays follow the weights.
        prepare = None if ops.capturing(last.device) else session.prepared
        self._parameters = Parameters(state, config, prepare, None if on_kernels else dtype)
        self._compiled = on_kernels and not ops.traced()
        self._replays = self._compiled or (self._device == "cuda" and not ops.traced())
        self._layers: Any = ops.cpu if self._compiled else ops
        self._by_maps = config.batch_norm and self._device == "cpu"
        """Whether both chains come first, as skips need maps that are kept."""

    def inpaint(self, x: Tensor, mask: Tensor, needed: Tensor | None = None, mask_key: Hashable = None) -> Tensor:
        """x [N, C, H, W] and its mask [N or 1, 1 or 3, H, W] -> [N, 3, H, W] in [0, 1].

        needed    bool [N or 1, 1, H, W]: where the result is; elsewhere it may be anything
        mask_key  stands for the mask's content, of which maps are then kept, as they are for a mask that pictures share
        """
        if self._compiled and (mask_key is not None or len(mask) < len(x)) and not Session.is_large(_ready(mask)):
            return self.generate(x, self._kept_maps(mask, mask_key), needed)
        run = self._inpaint_by_maps if self._by_maps or mask.shape[0] != x.shape[0] else self._inpaint
        inputs = [*(_ready(each) for each in (x, mask, 1 - mask)), *self._needed(needed, x)]
        with torch.autocast(self._device, enabled=False), self._active():
            return self._run("inpaint", list(self._state.values()), (), inputs, run)

    def generate(self, x: Tensor, maps: AttentionMaps, needed: Tensor | None = None) -> Tensor:
        """The image network under maps that are known; ``needed`` as for ``inpaint``."""
        run, inputs = partial(self._generate, maps), [_ready(x), *self._needed(needed, x)]
        with torch.autocast(self._device, enabled=False), self._active():
            return self._run("generate", list(self._state.values()), (*maps.forward, *maps.reverse), inputs, run)

    @property
    def _run(self) -> Callable[..., Tensor]:
        return self._session.run if self._replays else _run_once

    def _needed(self, needed: Tensor | None, x: Tensor) -> list[Tensor]:
        """It, of every picture, for layers that can leave something out."""
        if needed is None or not self._compiled:
            return []
        return [needed.ne(0).to(torch.uint8).expand(len(x), -1, -1, -1).contiguous()]

    def _active(self) -> AbstractContextManager[None]:
        """The session, which a recorded run enters by itself."""
        return nullcontext() if self._replays or ops.traced() else self._session.active()

    def attention_maps(self, mask: Tensor) -> AttentionMaps:
        """Both chains' maps of a mask [N, 1 or 3, H, W]."""
        # Maps are kept, so the CPU's kernels make them in the mask's own dtype whatever autocast says.
        given = [x.contiguous(memory_format=torch.channels_last) if self._compiled else _ready(x) for x in (mask, 1 - mask)]
        with torch.autocast(self._device, enabled=False), self._session.active(Session.is_large(given[0])):
            return replace(self._maps(*given), mask=mask)

    def _kept_maps(self, mask: Tensor, mask_key: Hashable) -> AttentionMaps:
        """The maps of a mask, from an earlier call with that key, or by default with a mask of that content."""

        def make() -> AttentionMaps:
            given = _ready(mask), _ready(1 - mask)  # in autocast's dtype
            with torch.autocast("cpu", enabled=False), self._session.active():
                return self._maps(*given)

        if mask_key is None:
            mask_key = blake2b(_ready(mask).float().permute(0, 2, 3, 1).numpy().data).digest()
        key = mask_key, mask.shape, ops.working_dtype(mask)
        return self._session.kept(key, list(self._state.values()), make, _nbytes)

    def _inpaint(self, x: Tensor, mask: Tensor, holes: Tensor, needed: Tensor | None = None) -> Tensor:
        first, u, tracker = x, mask, self._parameters.tracker(mask, FORWARD)
        skips: list[_Skip] = []
        for level in range(1, LEVELS + 1):
            x, u, skip = self._encode(level, x, u, tracker, update=level < LEVELS)
            skips.append(skip)
            del skip
            if ops.spares() and level == 1:
                skips = [lambda: self._encode(1, first, mask, self._parameters.tracker(mask, FORWARD, 1), update=False)[0]]
        del u
        return self._decode(x, skips, self._from_coarsest(holes), needed, self._compiled)

    def _inpaint_by_maps(self, x: Tensor, mask: Tensor, holes: Tensor, needed: Tensor | None = None) -> Tensor:
        return self._generate(self._maps(mask, holes), x, needed)

    def _generate(self, maps: AttentionMaps, x: Tensor, needed: Tensor | None = None) -> Tensor:
        skips: list[_Skip] = []
        for level, attention in enumerate(maps.forward, start=1):
            weight = self._parameters.filter(f"ec{level}.conv.conv.weight")
            y = skip = self._layers.encode_with_map(x, weight, attention, self._parameters.norm(f"ec{level}.bn"))
            if self._config.batch_norm and level < LEVELS:
                skip = self._layers.encode_with_map(x, weight, attention, self._parameters.skip_norm(level))
            skips.append(skip)
            x = y
        return self._decode(x, skips, reversed(maps.reverse), needed)

    def _maps(self, mask: Tensor, holes: Tensor) -> AttentionMaps:
        return AttentionMaps(mask, tuple(self._chain(mask, FORWARD)), tuple(self._chain(holes, REVERSE)))

    def _encode(
        self, level: int, x: Tensor, u: Tensor, tracker: ops.Tracker | None, update: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, the updated mask if it is wanted, and the skip for the decoder."""
        own, batch_norm = self._parameters, self._config.batch_norm
        weight, mask_weight = own.filter(f"ec{level}.conv.conv.weight"), own.mask_filter(FORWARD.filter(level), u)
        gate, regions = own.gate(FORWARD.prefix(level)), _next(tracker)
        norm = own.norm(f"ec{level}.bn")
        y, new, features, m = self._layers.encode(x, u, weight, mask_weight, gate, norm, Wanted(update, batch_norm), regions)
        if not batch_norm or not update:  # the last layer's output is nobody's skip
            return y, new, y
        return y, new, ops.attend(features, m, gate, own.skip_norm(level), False)[0]

    def _chain(self, u: Tensor, chain: Chain, depth: int | None = None, finest: bool = True) -> list[Tensor]:
        """Of every layer the map; of the first only if the ``finest`` is wanted."""
        found, tracker, depth = [], self._parameters.tracker(u, chain, depth), depth or chain.depth
        for level in range(1, depth + 1):
            weight, gate = self._parameters.mask_filter(chain.filter(level), u), self._parameters.gate(chain.prefix(level))
            if level == 1 and not finest:
                _, u, _ = self._layers.mask_step(u, weight, gate, Wanted(True, False), _next(tracker), mapped=False)
                continue
            attention, u, _ = self._layers.mask_step(u, weight, gate, Wanted(level < depth, False), _next(tracker))
            found.append(attention)
            del attention
        return found

    def _from_coarsest(self, u: Tensor) -> Iterator[Tensor]:
        """The reverse chain's maps, the coarsest first, each given away; the finest is made last where memory is spared."""
        found = self._chain(u, REVERSE, finest=not ops.spares())
        while found:
            yield found.pop()
        if ops.spares():
            yield self._chain(u, REVERSE, depth=1)[0]

    def _decode(
        self, x: Tensor, skips: list[_Skip], reverse: Iterator[Tensor], needed: Tensor | None, over_maps: bool = False
    ) -> Tensor:
        """``reverse``: the reverse chain's maps, the coarsest first. The skips are used up."""
        own, skip, options = self._parameters, None, list(_options(needed, over_maps))
        skips.pop()  # x itself
        for i in range(1, LEVELS):
            norm = own.norm(f"dc{i}.bn", own.half(LEVELS - i, of_skip=False))
            weights = own.filter_halves(f"dc{i}.conv.weight", skip)
            x = self._layers.decode_with_map(skip, x, *weights, next(reverse), norm, **options.pop())
            skip, last = None, skips.pop()
            skip = last if isinstance(last, Tensor) else last()
        weights = own.filter_halves("dc7.weight", skip)
        output: Tensor = self._layers.reconstruct(skip, x, *weights, self._config.output, **options.pop())
        return output


def _run_once(name: str, weights: object, maps: object, inputs: list[Tensor], run: Callable[..., Tensor]) -> Tensor:
    """``Session.run`` where nothing is recorded."""
    return run(*inputs)


def _options(needed: Tensor | None, over_maps: bool) -> Iterator[dict[str, Any]]:
    """What the decoder's layers are told on the compiled kernels, the last layer first; nothing by default."""
    yield {} if needed is None else {"needed": needed}
    for _ in range(1, LEVELS):
        options: dict[str, Any] = {"over_map": True} if over_maps else {}
        if needed is not None:
            options["needed"] = needed = ops.cpu.needs(needed)
        yield options


def _next(tracker: ops.Tracker | None) -> ops.Regions | None:
    """What the next level may skip."""
    return None if tracker is None else tracker.step()


def _nbytes(maps: AttentionMaps) -> int:
    return sum(x.nbytes for x in (maps.mask, *maps.forward, *maps.reverse))


def _ready(x: Tensor) -> Tensor:
    """As kernels take it."""
    return x.to(ops.working_dtype(x)).contiguous(memory_format=torch.channels_last)
