"""The service under load, beside ``lbam_fast.batch`` on the same pictures.

    python benchmarks/service.py                       # 50 clients, photographs of 256x256, 60 s
    python benchmarks/service.py --largest 1000        # of mixed sizes
    python benchmarks/service.py --overload            # a queue that is too short: 503, and what comes after

The service is a process of its own on this machine, as ``lbam-fast serve`` starts it; the clients share its cores. Each sends its
next picture, PNG or JPEG with a mask of its own, as soon as it has the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from batch import make_folder, pipeline

from lbam_fast import Inpainter
from lbam_fast.batch import Job

BOUNDARY = "lbam-benchmark"
PERCENTILES = (50, 90, 95, 99, 100)


@dataclass
class Load:
    """What the clients saw: how often each status, seconds of those answers, and the service's memory meanwhile in MiB."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.latencies.setdefault(status, []).append(seconds)

    def rate(self) -> float:
        return self.statuses[200] / self.seconds


@contextmanager
def service(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A service that is ready, with its host and port; stopped at the end."""
    command = [sys.executable, "-m", "lbam_fast", "serve", "--port", "0", "--log-level", "info", *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, text=True)
        try:
            yield process, *_address(process, log)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: subprocess.Popen[str], log: object) -> tuple[str, int]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log.seek(0)  # type: ignore[attr-defined]
        for line in log:  # type: ignore[attr-defined]
            if '"listening"' in line:
                found = urlsplit(json.loads(line)["url"])
                assert found.hostname and found.port
                return found.hostname, found.port
        time.sleep(0.1)
    raise SystemExit("the service did not start")


def request_of(job: Job) -> bytes:
    """The bytes that a client sends for a job."""
    assert job.mask is not None
    body = b""
    for name, path in (("image", job.image), ("mask", job.mask)):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
        body += head.encode() + path.read_bytes() + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/inpaint HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _client(host: str, port: int, requests: Sequence[bytes], first: int, until: float, load: Load, pause: float) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    turn = first
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(requests[turn % len(requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").lower()
        status = int(head.split(maxsplit=2)[1])
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        await reader.readexactly(length)
        load.add(status, time.perf_counter() - start)
        turn += 1
        if status == 503:
            await asyncio.sleep(pause)
    writer.close()


async def _watch(process: subprocess.Popen[str], load: Load) -> None:
    while True:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                load.memory.append(int(line.split()[1]) / 1024)
        await asyncio.sleep(0.5)


async def loaded(
    process: subprocess.Popen[str],
    host: str,
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    pause: float = 0.5,
) -> Load:
    """What so many clients see in that time; the requests that are under way at its end are waited for, and count."""
    load, start = Load(), time.perf_counter()
    watching = asyncio.create_task(_watch(process, load))
    await asyncio.gather(*(_client(host, port, requests, i, start + seconds, load, pause) for i in range(clients)))
    load.seconds = time.perf_counter() - start
    watching.cancel()
    return load


def _table(load: Load) -> str:
    first, most, last = load.memory[0], max(load.memory), load.memory[-1]
    lines = [f"{load.seconds:.1f} s; memory {first:.0f} MiB at first, {most:.0f} at most, {last:.0f} at last"]
    for status, latencies in sorted(load.latencies.items()):
        found = ", ".join(f"p{p} {1000 * np.percentile(latencies, p):.0f}" for p in PERCENTILES)
        lines.append(
            f"{status}: {load.statuses[status]} answers, {load.statuses[status] / load.seconds:.2f} a second; ms: {found}"
        )
    return "\n".join(lines)


def batch_rate(jobs: Sequence[Job]) -> float:
    """Pictures a second of ``lbam_fast.batch``, the second time."""
    inpainter = Inpainter.from_pretrained()
    pipeline(inpainter, jobs[: len(jobs) // 4])
    start = time.perf_counter()
    pipeline(inpainter, jobs)
    return len(jobs) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=96, help="pictures")
    parser.add_argument("--largest", type=int, default=256, help="side in pixels")
    parser.add_argument("--overload", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = make_folder(Path(folder), options.count, options.largest, one_mask=False)
        requests = [request_of(job) for job in jobs]
        if options.overload:
            with service("--queue", "8") as (process, host, port):
                asyncio.run(loaded(process, host, port, requests, 4, options.seconds / 6))
                print(_table(asyncio.run(loaded(process, host, port, requests, options.clients, options.seconds / 2))))
                print("then, with 4 clients:")
                print(_table(asyncio.run(loaded(process, host, port, requests, 4, options.seconds / 6))))
            return
        before = batch_rate(jobs)
        with service() as (process, host, port):
            asyncio.run(loaded(process, host, port, requests, 4, 5.0))
            load = asyncio.run(loaded(process, host, port, requests, options.clients, options.seconds))
        after = batch_rate(jobs)
    print(
        f"{options.clients} clients, {options.count} pictures of {min(256, options.largest)} to {options.largest} pixels a side"
    )
    print(_table(load))
    share = load.rate() / np.mean([before, after])
    print(f"lbam_fast.batch: {before:.2f} a second before, {after:.2f} after; the service {share:.0%} of that")


if __name__ == "__main__":
    main()
