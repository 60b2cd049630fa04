"""Texture for a hole from the picture itself: the specification of the kernel ``exemplar``, in plain NumPy.

A patch-based optimisation (Wexler, Shechtman, Irani, Space-Time Completion of Video, PAMI 2007) with randomised search for
nearest patches (Barnes et al., PatchMatch, SIGGRAPH 2009), from coarse to fine. Every 5x5 patch that meets the hole, a target,
looks for the most similar patch that is known, a source; a pixel of the hole is the mean of what the sources of the patches
over it have there. What is new: the first estimate is a network's picture, the guide, to which coarse levels are held; and a
source with less texture than the known patches nearby is the less similar for it, or smooth holes would be filled from
smooth places.

Whole numbers (colours of 0 to 1 as 0 to 1020) and random numbers that depend on seed and place alone make results repeatable.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

SCALE = 4 * 255
REACH = 2
SIDE = 2 * REACH + 1
AREA = SIDE * SIDE
TRUST = 4
"""Weight of a known pixel in the comparison of patches, beside one of the hole."""
MEAN_SHARE = 4
"""Patches that differ by a constant colour alone are as similar as if it were smaller: its square counts by 1 - 1 / this."""
KNOWN_HALVED = 4
"""The same in a pixel of half the size."""
TEXTURE = 480
"""Weight of the square of what a source's texture lacks."""
NEARBY, ENOUGH = 6, 12
"""Half the side of the first box around a target whose sources say what texture it is to have; how many are enough."""
KNOWN = 16
"""Weight of a vote for each known pixel of its patch, beside 1."""
GUIDE = 128
"""Weight of the guide at the coarsest level, in 256ths of the estimate's; half of it at each finer one, none at the finest."""
SMALLEST = 200
"""Distance below which no vote is worth more."""
MOST_OFFSET = 64 * 4 * 16
"""Of a source's colours to a target's, in sixteenths: 64 grey levels."""
DRAWS, MOST_LEVELS, SHORTEST, FEWEST = 8, 12, 16, 16
"""Random matches to start from; levels at most; the shortest side and the fewest sources of a coarser level."""


def exemplar(picture: NDArray[np.float32], hole: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float32]:
    """``picture`` [H, W, 3] in [0, 1], in its ``hole`` [H, W] the guide: with texture there, all other pixels the very same.

    The guide itself comes back where there is nothing to copy: no patch of 5x5 that is known.
    """
    filled = picture.astype(np.float32, copy=True)
    levels = _pyramid(picture, hole)
    coarsest = len(levels) - 1
    if not len(levels[0].sources) or not len(levels[0].targets):
        return filled
    for i in range(coarsest, -1, -1):
        level = levels[i]
        if i == coarsest:
            level.start_at_random(_key(seed, i, 0, 0))
        else:
            level.refine(levels[i + 1], _key(seed, i, 0, 0))
        rounds, passes = (3 + 4 * i) * (2 if i == coarsest else 1), min(8, 3 + 2 * i)
        radius = max(level.height, level.width) if i == coarsest else 16 << i
        for turn in range(1, rounds + 1):
            level.aim(GUIDE >> (coarsest - i) if i else 0)
            for each in range(passes):
                level.search(_key(seed, i, turn, each), min(8, 1 << (passes - 1 - each)), radius)
            if i or turn < rounds:
                level.vote()
    finest = levels[0]
    finest.find_offsets()
    pixels = picture.reshape(-1, 3).astype(np.float64)
    for pixel in finest.holes:
        targets, sources, weights = finest.votes(int(pixel))
        values = pixels[sources] + finest.offsets[targets] / (16 * SCALE)
        filled.reshape(-1, 3)[pixel] = np.clip(weights @ values / weights.sum(), 0, 1)
    return filled


class _Level:
    """One size of the picture. Positions are numbers of pixels, line by line; arrays have one element, or three, for each."""

    def __init__(self, guide: Whole, hole: NDArray[np.bool_]) -> None:
        self.height, self.width = hole.shape
        self.hole, self.guide = hole.ravel(), guide.reshape(-1, 3)
        self.estimate, self.target = self.guide.copy(), self.guide.copy()
        lines, columns = np.indices(hole.shape)
        inside = (lines >= REACH) & (lines < self.height - REACH) & (columns >= REACH) & (columns < self.width - REACH)
        centres = np.flatnonzero(inside)
        steps = np.arange(-REACH, REACH + 1)
        self.patch = (steps[:, None] * self.width + steps).ravel()
        self.known = np.zeros(hole.size, np.int64)
        self.known[centres] = (~self.hole[centres[:, None] + self.patch]).sum(axis=1)
        self.holes = np.flatnonzero(self.hole)
        self.sources, self.targets = centres[self.known[centres] == AREA], centres[self.known[centres] < AREA]
        self.is_source = np.zeros(hole.size, bool)
        self.is_source[self.sources] = True
        self.deep = bool((self.known[self.targets] == 0).any())
        self.weights = np.where(self.hole, 1, TRUST)
        self.matches = np.full(hole.size, -1)
        self.distances = np.zeros(hole.size, np.int64)
        self.offsets = np.zeros((hole.size, 3), np.int64)
        self.texture = self._texture()

    def _texture(self) -> Whole:
        """Of every source the mean difference between neighbours in it; of every target the mean of the sources around it."""
        square = self.guide.reshape(self.height, self.width, 3)
        right, below = np.zeros_like(square), np.zeros_like(square)
        right[:, :-1], below[:-1] = np.diff(square, axis=1), np.diff(square, axis=0)
        changes = (np.abs(right) + np.abs(below)).sum(axis=2).ravel()
        inner = (np.arange(1 - REACH, REACH)[:, None] * self.width + np.arange(1 - REACH, REACH)).ravel()
        texture = np.zeros(self.hole.size, np.int64)
        texture[self.sources] = changes[self.sources[:, None] + inner].sum(axis=1) // (6 * len(inner))
        of_sources = np.where(self.is_source, texture, 0).reshape(self.height, self.width)
        counts = self.is_source.reshape(self.height, self.width)
        for target in self.targets:
            line, column = divmod(int(target), self.width)
            reach = NEARBY
            while True:
                box = np.s_[max(line - reach, 0) : line + reach + 1, max(column - reach, 0) : column + reach + 1]
                count = int(counts[box].sum())
                if count >= ENOUGH or reach >= self.height + self.width:
                    break
                reach *= 2
            texture[target] = of_sources[box].sum() // count if count else 0
        return texture

    def _differences(self, targets: Whole, sources: Whole) -> tuple[Whole, Whole]:
        """Weighted sums over the patches of target - source: of the squares, and of each colour."""
        d = self.target[targets[:, None] + self.patch] - self.guide[sources[:, None] + self.patch]
        weighted = d * self.weights[targets[:, None] + self.patch][..., None]
        return (d * weighted).sum(axis=(1, 2)), weighted.sum(axis=1)

    def _weight(self, targets: Whole) -> Whole:
        return AREA + (TRUST - 1) * self.known[targets]

    def distance(self, targets: Whole, sources: Whole) -> Whole:
        squares, colours = self._differences(targets, sources)
        lack = np.maximum(self.texture[targets] - self.texture[sources], 0)
        return squares - (colours**2).sum(axis=1) // (MEAN_SHARE * self._weight(targets)) + TEXTURE * lack**2

    def _look(self, best: Whole, least: Whole, which: Whole, sources: Whole) -> None:
        """Take ``sources`` for the targets of the numbers ``which`` where they are nearer than ``best``."""
        found = self.distance(self.targets[which], sources)
        nearer = (found < least[which]) | (best[which] < 0)
        best[which[nearer]], least[which[nearer]] = sources[nearer], found[nearer]

    def _any_source(self, random: NDArray[np.uint32]) -> Whole:
        return self.sources[(random.astype(np.uint64) * np.uint64(len(self.sources)) >> np.uint64(32)).astype(np.int64)]

    def start_at_random(self, seed: int) -> None:
        own, every = _mixed(self.targets + seed), np.arange(len(self.targets))
        best, least = np.full(len(every), -1), np.zeros(len(every), np.int64)
        for draw in range(DRAWS):
            self._look(best, least, every, self._any_source(_mixed(own + np.uint32(draw))))
        self.matches[self.targets], self.distances[self.targets] = best, least

    def search(self, seed: int, step: int, radius: int) -> None:
        """The neighbours' matches of the pass before, moved along, and draws around the best, nearer and nearer."""
        best = self.matches[self.targets]
        least = self.distance(self.targets, best)
        for offset in (-step, step, -step * self.width, step * self.width):
            neighbours = self.targets + offset
            on = (neighbours >= 0) & (neighbours < self.hole.size)
            match = np.where(on, self.matches[np.where(on, neighbours, 0)], -1)
            self._look_if_source(best, least, np.where(match >= 0, match - offset, -1))
        own, draw, reach = _mixed(self.targets + seed), 0, radius
        while reach > 0:
            random = _mixed(own + np.uint32(draw)).astype(np.int64)
            line = best // self.width + ((random >> 16) * (2 * reach + 1) >> 16) - reach
            column = best % self.width + ((random & 0xFFFF) * (2 * reach + 1) >> 16) - reach
            on = (line >= 0) & (column >= 0) & (line < self.height) & (column < self.width)
            self._look_if_source(best, least, np.where(on, line * self.width + column, -1))
            draw, reach = draw + 1, reach // 2
        self.matches[self.targets], self.distances[self.targets] = best, least

    def _look_if_source(self, best: Whole, least: Whole, sources: Whole) -> None:
        on = (sources >= 0) & (sources < self.hole.size)
        which = np.flatnonzero(on & self.is_source[np.where(on, sources, 0)])
        self._look(best, least, which, sources[which])

    def find_offsets(self) -> None:
        """What a source's colours lack, on the mean over the patch, in sixteenths."""
        _, colours = self._differences(self.targets, self.matches[self.targets])
        lacking = 16 * colours // self._weight(self.targets)[:, None]
        self.offsets[self.targets] = np.clip(lacking, -MOST_OFFSET, MOST_OFFSET)

    def votes(self, pixel: int) -> tuple[Whole, Whole, Whole]:
        """The targets over a pixel, the pixels that their matches have there, and their weights."""
        line, column = divmod(pixel, self.width)
        lines = np.arange(max(line - REACH, REACH), min(line + REACH, self.height - 1 - REACH) + 1)
        columns = np.arange(max(column - REACH, REACH), min(column + REACH, self.width - 1 - REACH) + 1)
        targets = (lines[:, None] * self.width + columns).ravel()
        distances = self.distances[targets]
        ratio = (distances.min() + SMALLEST) * 256 // (distances + SMALLEST)
        cube = ratio * ratio // 256 * ratio // 256
        return targets, self.matches[targets] + pixel - targets, np.maximum(cube, 1) * (KNOWN * self.known[targets] + 1)

    def vote(self) -> None:
        self.find_offsets()
        for pixel in self.holes:
            targets, sources, weights = self.votes(int(pixel))
            sums, total = weights @ (16 * self.guide[sources] + self.offsets[targets]), weights.sum()
            self.estimate[pixel] = np.minimum((np.maximum(sums, 0) + 8 * total) // (16 * total), SCALE)

    def aim(self, guide: int) -> None:
        """What targets look like: the estimate, drawn to the guide by so many 256ths."""
        both = 256 * self.estimate[self.holes] + guide * self.guide[self.holes]
        self.target[self.holes] = (both + (256 + guide) // 2) // (256 + guide)

    def refine(self, coarse: _Level, seed: int) -> None:
        """Matches and estimate from half the size."""
        line, column = np.divmod(self.targets, self.width)
        v = np.clip(line // 2, REACH, coarse.height - 1 - REACH)
        u = np.clip(column // 2, REACH, coarse.width - 1 - REACH)
        centre = v * coarse.width + u
        match = np.where(coarse.matches[centre] < 0, centre, coarse.matches[centre])
        row, place = 2 * (match // coarse.width - v) + line, 2 * (match % coarse.width - u) + column
        on = (row >= 0) & (place >= 0) & (row < self.height) & (place < self.width)
        source = np.where(on, row * self.width + place, 0)
        usable = on & self.is_source[source]
        self.matches[self.targets] = np.where(usable, source, self._any_source(_mixed(self.targets + seed)))
        line, column = np.divmod(self.holes, self.width)
        above = np.minimum(line // 2, coarse.height - 1) * coarse.width + np.minimum(column // 2, coarse.width - 1)
        change = coarse.estimate[above] - coarse.guide[above]
        self.estimate[self.holes] = np.clip(self.guide[self.holes] + change, 0, SCALE)
        self.aim(0)
        self.distances[self.targets] = self.distance(self.targets, self.matches[self.targets])
        self.vote()


def _pyramid(picture: NDArray[np.float32], hole: NDArray[np.bool_]) -> list[_Level]:
    """Coarser and coarser until every patch sees a known pixel, or there would be too little left to copy."""
    scaled = (np.clip(picture, 0, 1).astype(np.float64) * SCALE + 0.5).astype(np.int64)  # in float64, where no step rounds
    levels = [_Level(scaled, hole)]
    while levels[-1].deep and len(levels) < MOST_LEVELS and min(levels[-1].height, levels[-1].width) >= 2 * SHORTEST:
        coarse = _Level(*_halved(levels[-1]))
        if len(coarse.sources) < FEWEST or not len(coarse.targets):
            break
        levels.append(coarse)
    return levels


def _halved(level: _Level) -> tuple[Whole, NDArray[np.bool_]]:
    """A pixel of half the size is the mean of sixteen, nearer ones and known ones counting more; hole where none is known."""
    height, width = level.height // 2, level.width // 2
    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1])

    def sums(x: Whole) -> Whole:
        padded = np.pad(x.reshape(level.height, level.width, -1), ((1, 2), (1, 2), (0, 0)))
        parts = [kernel[y, x] * padded[y : y + 2 * height : 2, x : x + 2 * width : 2] for y in range(4) for x in range(4)]
        found: Whole = np.sum(parts, axis=0)
        return found

    each = np.where(level.hole, 1, KNOWN_HALVED)[:, None]
    weights = sums(each)
    return (sums(each * level.guide) + weights // 2) // weights, sums(1 - level.hole.astype(np.int64))[..., 0] == 0


def _mixed(x: NDArray[Any]) -> NDArray[np.uint32]:
    """Whole numbers scrambled: Wellons' lowbias32."""
    x = x.astype(np.uint32)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def _key(*numbers: int) -> int:
    """Of seed, level, round and pass."""
    found = np.zeros(1, np.uint32)
    for number in numbers:
        found = _mixed(found + np.uint32(number))
    return int(found[0])
