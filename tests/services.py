"""Services that the tests of them share: in this process, and as a process of its own."""

import dataclasses
import functools
import io
import json
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import torch
from forked import Program
from PIL import Image

from lbam_fast import LBAM, Inpainter, LBAMConfig, save_checkpoint
from lbam_fast.service import Settings, make_app

with warnings.catch_warnings(action="ignore"):  # it asks for another version of httpx, and works with this one
    from starlette.testclient import TestClient

HEIGHT, WIDTH = 40, 56
BOX = (slice(10, 25), slice(20, 40))


def picture(mode: str = "RGB", seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    array = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(array.squeeze(-1) if channels == 1 else array)


def mask(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    array = np.zeros((height, width), np.uint8)
    array[BOX] = 255
    return Image.fromarray(array)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def loaded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def tiny() -> LBAM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LBAM(LBAMConfig.preset("official", base_width=4))


@contextmanager
def service(inpainter: Inpainter | None = None, **settings: object) -> Iterator[TestClient]:
    """A service in this process, of a tiny network unless an inpainter is given."""
    app = make_app([inpainter or Inpainter(tiny())], dataclasses.replace(Settings(), **settings))
    with TestClient(app, "http://localhost") as client:
        yield client


def send(client: httpx.Client, image: bytes, mask: bytes | None = None, headers: dict | None = None, **query: object):
    files = {"image": image} | ({} if mask is None else {"mask": mask})
    return client.post("/v1/inpaint", files=files, params=query, headers=headers)


@dataclass
class Process:
    """``lbam-fast serve`` in a folder of its own, with the lines that it logs."""

    process: Program
    url: str
    log: Path
    folder: Path

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def alive(self) -> bool:
        return self.process.poll() is None and httpx.get(f"{self.url}/readyz", timeout=60).status_code in (200, 503)


@contextmanager
def process(folder: Path, *flags: str, weights: bool = True) -> Iterator[Process]:
    """Of a tiny network, or of the one in the package."""
    log, home = folder / "log", folder / "home"
    home.mkdir(parents=True)
    log.touch()
    if weights:
        save_checkpoint(tiny(), folder / "tiny.safetensors")
        flags = ("--weights", str(folder / "tiny.safetensors"), *flags)
    arguments = ("serve", "--port", "0", "--threads", "1", *flags)
    with Program(*arguments, log=log, before=functools.partial(settle, home)) as running:
        found = Process(running, "", log, home)
        try:
            deadline = time.monotonic() + 120
            while not found.url:
                assert running.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
                found.url = next((line["url"] for line in found.lines() if line["event"] == "listening"), "")
            yield found
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)


def settle(home: Path) -> None:
    """Let this process know that folder alone."""
    os.chdir(home)
    os.environ |= {"TMPDIR": str(home), "HOME": str(home)}
    tempfile.tempdir = None


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0
