"""From a request's bytes to those of its answer: decoded and encoded on threads beside the network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from lbam_fast.batch.stages import default_threads
from lbam_fast.errors import LBAMError
from lbam_fast.inference import Inpainter, OutOfMemoryError
from lbam_fast.service.admission import stopping
from lbam_fast.service.batching import Batcher
from lbam_fast.service.errors import ServiceError
from lbam_fast.service.options import Options
from lbam_fast.service.pictures import MEDIA_TYPES, SUFFIXES, Decoder, encode
from lbam_fast.service.settings import Settings

Value = TypeVar("Value")
AT_ONCE = 2
"""Pictures of the largest size allowed that are in memory decoded, beside those that are being decoded."""


@dataclass(frozen=True)
class Answer:
    """The bytes of a filled picture, and how they came to be. stages: seconds of each."""

    data: bytes
    media_type: str
    suffix: str
    notes: tuple[str, ...]
    strategy: str
    size: tuple[int, int]
    together: int
    stages: dict[str, float]


class Engine:
    """One network for all requests; ``told`` is told how many pictures go through it together."""

    def __init__(self, inpainters: Sequence[Inpainter], settings: Settings, told: Callable[[int], None]) -> None:
        self._decoder = Decoder(settings.max_pixels)
        self._readers = ThreadPoolExecutor(default_threads(), thread_name_prefix="lbam-read")
        self._writers = ThreadPoolExecutor(default_threads(), thread_name_prefix="lbam-write")
        self._coming = 0
        self._reading = asyncio.Semaphore(default_threads())
        self._room = _Room(AT_ONCE * settings.max_pixels)
        self._batcher = Batcher(
            inpainters, batch=settings.batch, wait=settings.batch_wait, coming=lambda: self._coming > 0, told=told
        )

    @property
    def alive(self) -> bool:
        return self._batcher.alive

    def close(self) -> None:
        """Finish what was begun, and end."""
        self._readers.shutdown()
        self._batcher.close()
        self._writers.shutdown()

    async def inpaint(self, image: bytes, mask: bytes | None, options: Options) -> Answer:
        """Raises ServiceError with the status of the answer. If it is cancelled, what has not begun is not done."""
        start = time.perf_counter()
        self._coming += 1
        try:
            async with self._reading:  # so that no more are between the wait for room and its taking
                await self._room.wait()
                request = await _on(self._readers, partial(self._decoder, image, mask, options))
                self._room.take(request.pixels)
        finally:
            self._coming -= 1
        try:
            task = self._batcher.submit(request)
            decoded = time.perf_counter()
            filled = await asyncio.wrap_future(task.future)
            data, notes = await _on(self._writers, partial(encode, request, filled))
        except ServiceError:
            raise
        except OutOfMemoryError as error:
            raise ServiceError(str(error), 503, "memory", 5) from error
        except LBAMError as error:
            raise ServiceError(str(error), 422, "cannot_fill") from error
        finally:
            self._room.give(request.pixels)
        height, width = request.picture.pixels.shape[:2]
        stages = {
            "decode": decoded - start,
            "wait": task.begun - decoded,
            "fill": task.ended - task.begun,
            "encode": time.perf_counter() - task.ended,
        }
        media_type, suffix = MEDIA_TYPES[request.format], SUFFIXES[request.format]
        return Answer(data, media_type, suffix, notes, task.strategy, (width, height), task.together, stages)


class _Room:
    """For so many decoded pixels; a picture is let in as soon as there is any room, so that the largest gets its turn too."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._change = asyncio.Event()
        self._change.set()

    async def wait(self) -> None:
        while self._free <= 0:
            self._change.clear()
            await self._change.wait()

    def take(self, pixels: int) -> None:
        self._free -= pixels

    def give(self, pixels: int) -> None:
        self._free += pixels
        self._change.set()


async def _on(threads: ThreadPoolExecutor, call: Callable[[], Value]) -> Value:
    try:
        begun = asyncio.get_running_loop().run_in_executor(threads, call)
    except RuntimeError as error:  # they were shut down
        raise stopping() from error
    return await begun
