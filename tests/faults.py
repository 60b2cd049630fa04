"""Runs of ``lbam-fast inpaint --resume`` that meet a fault at a random moment, and what they must leave. POSIX only.

    python tests/faults.py --times 20    # of every fault

After the fault: results are whole and equal to those of an undisturbed run, nothing else is there (but what a killed process was
writing, under a hidden name), inputs are untouched. The same command then completes, to the bit as if nothing had happened.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}
WORKER = "SIGKILL of a worker"
KINDS = (*SIGNALS, "full disk", "corrupt file", "out of memory", *([WORKER] if sys.platform == "linux" else []))
JOURNAL = ".lbam-fast.jsonl"


def in_child(work: Callable[[], object], *, quiet: bool = True) -> int:
    """Begin ``work`` in a copy of this process, which has the libraries loaded; its process id."""
    if (child := os.fork()) != 0:
        return child
    code = 70
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        work()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Scene:
    """A folder of pictures and masks, and what comes of them undisturbed."""

    def __init__(self, root: Path, count: int = 24) -> None:
        self.root = root
        self.pictures, self.masks, self.weights = root / "p", root / "m", root / "tiny.safetensors"
        self.pictures.mkdir()
        self.masks.mkdir()
        rng = np.random.default_rng(0)
        for i in range(count):
            height, width = (int(side) for side in rng.integers(60, 300, 2))
            pixels = Image.fromarray(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)).resize((width, height))
            pixels.save(self.pictures / f"{i:02d}.{'jpg' if i % 3 else 'png'}")
            mask = np.zeros((height, width), np.uint8)
            mask[10 : height // 2, 10 : width // 3] = 255
            Image.fromarray(mask).save(self.masks / f"{i:02d}.png")
        assert ended(in_child(self._save_weights)) == 0
        start = time.monotonic()
        assert self.run(root / "undisturbed") == 0
        self.seconds = time.monotonic() - start
        self.expected = contents(root / "undisturbed")
        self.inputs = contents(self.pictures) | contents(self.masks)

    def run(self, output: Path, before: Callable[[], object] = lambda: None) -> int:
        return ended(self.begin(output, before))

    def begin(self, output: Path, before: Callable[[], object] = lambda: None, *options: str) -> int:
        """The process of a run; ``before`` is called in it first."""

        def work() -> None:
            from lbam_fast.__main__ import main

            before()
            paths = [self.pictures, self.masks, "-o", output, "--weights", self.weights]
            sys.argv = ["lbam-fast", "inpaint", *map(str, paths), "--detail", "off", "--threads", "1", "--resume", *options]
            main()

        return in_child(work)

    def _save_weights(self) -> None:
        import torch

        from lbam_fast import LBAM, LBAMConfig, save_checkpoint

        torch.manual_seed(0)
        save_checkpoint(LBAM(LBAMConfig.preset("official", base_width=4)), self.weights)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL}


def check(scene: Scene, kind: str, rng: random.Random) -> str:
    """One run with that fault, then the same command again; a few words on it. AssertionError where something is wrong."""
    output = scene.root / "disturbed"
    shutil.rmtree(output, ignore_errors=True)
    expected, code = scene.expected, _disturbed(scene, kind, output, rng)
    found = contents(output) if output.exists() else {}
    results = {name: content for name, content in found.items() if not name.startswith(".")}
    assert kind == "SIGKILL" or results == found, sorted(found.keys() - results.keys())
    if kind == "corrupt file":
        expected = expected | results  # made in other batches
    assert results.items() <= expected.items(), f"{kind}: a result is not that of an undisturbed run"
    assert scene.run(output) == 0
    assert contents(output) == expected, f"{kind}: resumed, it is not what an undisturbed run gives"
    assert contents(scene.pictures) | contents(scene.masks) == scene.inputs
    return f"{kind}: exit code {code}, {len(results)} of {len(expected)} done before, all after"


def _disturbed(scene: Scene, kind: str, output: Path, rng: random.Random) -> int:
    if kind in SIGNALS:
        child = scene.begin(output)
        time.sleep(rng.uniform(0.05, scene.seconds))
        os.kill(child, SIGNALS[kind])
        code = ended(child)
        assert code in (0, 128 + SIGNALS[kind], -SIGNALS[kind]), code
        return code
    if kind == WORKER:
        child = scene.begin(output, lambda: None, "--device", "cpu,cpu")
        return _without_worker(child, output, rng.randrange(len(scene.expected) - 4), rng)
    if kind == "full disk":
        limit = rng.randrange(8_000, 60_000)
        return scene.run(output, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    if kind == "out of memory":
        at = {rng.randrange(12) for _ in range(3)}
        return scene.run(output, lambda: _without_memory(at))
    victim = rng.choice(sorted(scene.pictures.iterdir()))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: rng.randrange(len(whole) // 2)])
    code = scene.run(output)
    assert code == 1
    victim.write_bytes(whole)
    return code


def _without_worker(child: int, output: Path, after: int, rng: random.Random) -> int:
    """Kill one of the processes that a run works with once so many results are there, and wait for the run."""
    while True:
        workers = [int(process) for process in Path(f"/proc/{child}/task/{child}/children").read_text().split()]
        workers = [process for process in workers if b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()]
        if len(workers) == 2 and len(list(output.glob("[0-9]*"))) >= after:
            os.kill(rng.choice(workers), signal.SIGKILL)
            code = ended(child)
            assert code == 0, code
            return code
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "no worker was there to be killed"
        time.sleep(0.005)


def _without_memory(at: set[int]) -> None:
    """Let the network's calls of these numbers fail as PyTorch does where memory lacks."""
    import torch

    from lbam_fast import LBAM

    calls, forward = [0], LBAM.forward

    def limited(self: LBAM, *given: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] in at:
            raise torch.OutOfMemoryError("on purpose")
        return forward(self, *given, **named)  # type: ignore[arg-type]

    LBAM.forward = limited  # type: ignore[assignment,method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    options = parser.parse_args()
    load_libraries()
    with tempfile.TemporaryDirectory() as folder:
        scene, rng = Scene(Path(folder)), random.Random(options.seed)
        for kind in options.kinds:
            for _ in range(options.times):
                print(check(scene, kind, rng), flush=True)


def load_libraries() -> None:
    """What every run needs, before processes are copied."""
    import lbam_fast.batch.filling
    import lbam_fast.cli
    import lbam_fast.inference  # noqa: F401


if __name__ == "__main__":
    main()
