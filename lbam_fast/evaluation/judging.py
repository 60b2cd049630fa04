"""Methods judged on cases: each fills the hole of each, and metrics say how well, in as many processes as wanted."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from lbam_fast.errors import LBAMError
from lbam_fast.evaluation.cases import Case
from lbam_fast.evaluation.holes import reaches_border
from lbam_fast.evaluation.methods import Method, Pixels
from lbam_fast.evaluation.metrics import Metric
from lbam_fast.pictures import Picture, write_picture


class MethodError(LBAMError, ValueError):
    """A method that cannot be had, or that does not give what a method gives; the message says what was expected."""


@dataclass(frozen=True)
class Result:
    """What a method made of a case: values by metric, or else the ``error``. share: the hole's of the picture."""

    case: str
    picture: str
    method: str
    share: float
    border: bool
    values: Mapping[str, float]
    error: str = ""


@dataclass(frozen=True)
class Task:
    """A case and the methods that are to fill it; where ``keep`` is a folder, the pictures are put into it."""

    case: Case
    methods: tuple[str, ...]
    keep: Path | None = None


@dataclass(frozen=True)
class Judge:
    methods: Mapping[str, Method]
    metrics: Sequence[Metric]

    def __call__(self, task: Task) -> list[Result]:
        """A result for each of the task's methods. Whatever goes wrong in one of them is its ``error``."""
        case = task.case
        try:
            original, mask = case.load()
        except Exception as error:
            return [Result(case.name, case.picture, name, 0.0, False, {}, _in_words(error)) for name in task.methods]
        if task.keep:
            _write(kept_path(task.keep, case.name, TRUTH), original)
            _write(kept_path(task.keep, case.name, INPUT), with_hole(original, mask))
        return [self._result(task, name, original, mask) for name in task.methods]

    def _result(self, task: Task, name: str, original: Pixels, mask: Pixels) -> Result:
        values, problem = {}, ""
        try:
            filled = filled_by(name, self.methods[name], original, mask)
            values = {metric.name: metric.value(filled, original, mask) for metric in self.metrics}
            if task.keep:
                _write(kept_path(task.keep, task.case.name, name), filled)
        except Exception as error:  # methods are of many makers, and one that fails must not end the others
            problem = _in_words(error)
        share, border = float((mask > 0).mean()), reaches_border(mask)
        return Result(task.case.name, task.case.picture, name, share, border, values, problem)


TRUTH, INPUT = "truth", "input"


def kept_path(folder: Path, case: str, method: str) -> Path:
    """Where the picture that a method made of a case is kept."""
    safe = "".join(each if each.isalnum() or each in "-." else "_" for each in method)
    return folder / f"{safe}-{hashlib.sha256(method.encode()).hexdigest()[:6]}" / f"{case}.png"


def with_hole(picture: Pixels, mask: Pixels) -> Pixels:
    """The picture with its hole in grey."""
    return np.where(mask[..., None] > 0, np.uint8(128), picture)


def filled_by(name: str, method: Method, picture: Pixels, mask: Pixels) -> Pixels:
    """What the method makes of the picture with its hole in grey, for OpenCV's look into holes near the picture's edge.

    Raises MethodError if it alters known pixels.
    """
    filled = method(with_hole(picture, mask), mask)
    if filled.shape != picture.shape or filled.dtype != np.uint8:
        raise MethodError(f"{name} gave {filled.dtype}{list(filled.shape)}, expected uint8{list(picture.shape)}")
    known = mask == 0
    if not np.array_equal(filled[known], picture[known]):
        raise MethodError(f"{name} altered known pixels: expected the picture with nothing but its hole filled")
    return filled


def judged(judge: Judge, tasks: Sequence[Task], jobs: int) -> Iterator[list[Result]]:
    """The results of each task, in order.

    With ``jobs`` above 1 as many processes share the tasks, with one thread each, and methods and metrics must be picklable.
    """
    if jobs == 1:
        yield from map(judge, tasks)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (judge,)) as pool:
        ahead: deque[Future[list[Result]]] = deque()
        for task in tasks:  # few ahead, so that little is left to wait for when the reader stops
            ahead.append(pool.submit(_work, task))
            if len(ahead) > 2 * jobs:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


_worker: Judge


def _start_worker(judge: Judge) -> None:
    global _worker
    _worker = judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and the first one ends the others
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _work(task: Task) -> list[Result]:
    return _worker(task)


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(pixels, alpha=None, format="PNG", exif=None, icc_profile=None, notes=(), lossless=True))


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, LBAMError) else f"{type(error).__name__}: {error}"
