"""Bad requests by the hundred: only 4xx or 503, a living service, and no file touched."""

import contextlib
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_uploads import IMAGE, bad_uploads, form, slow
from services import address, process

EVERY = 12
"""Of the hand-made requests one in so many is in the sample of make test."""
SECONDS = 60


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    limits = ("--max-pixels", "1000000", "--max-body", "3000000", "--header-seconds", "1.5", "--upload-seconds", "1.5")
    with process(tmp_path_factory.mktemp("service"), *limits) as found:
        yield found


@pytest.fixture(scope="module")
def requests():
    return bad_uploads()


def status(running, request: bytes) -> int:
    """Of the answer; 0 where the connection was closed without one."""
    with socket.create_connection(address(running.url), timeout=SECONDS) as line:
        answer = b""
        with contextlib.suppress(OSError):  # it may be refused while it is sent
            line.sendall(request)
        with contextlib.suppress(ConnectionError):
            while b"\r\n" not in answer and (more := line.recv(4096)):
                answer += more
    return int(answer.split()[1]) if answer else 0


def test_there_are_enough_and_all_are_different(requests):
    assert len(requests) >= 500
    assert len({name for name, _ in requests}) == len(requests)


def test_bad_requests_are_refused(running, requests, thorough):
    before = sorted(running.folder.rglob("*"))
    with ThreadPoolExecutor(8) as threads:
        chosen = requests if thorough else requests[::EVERY]
        start = time.monotonic()
        found = dict(zip((name for name, _ in chosen), threads.map(lambda each: status(running, each[1]), chosen), strict=True))
        spent = time.monotonic() - start
    assert {name: code for name, code in found.items() if not (400 <= code < 500 or code == 503)} == {}
    assert spent < len(chosen)  # a second each, on the busiest machine
    assert running.alive() and status(running, form(IMAGE)) == 200
    assert sorted(running.folder.rglob("*")) == before
    assert not [line for line in running.lines() if line["event"] == "failed"]


def test_slow_clients_lose_their_line_and_hold_nobody_up(running):
    requests = list(slow())
    with ThreadPoolExecutor(2 * len(requests)) as threads:
        slow_ones = [threads.submit(status, running, request) for _, request in requests * 2]
        assert status(running, form(IMAGE)) == 200
        assert {each.result() for each in slow_ones} <= {0, 408}
    assert running.alive()


def test_what_the_description_allows_and_forbids(running, thorough):
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json", "--no-color", "--no-shrink"]
    command += ["--seed", "1", "--generation-database", "none", "--continue-on-failure", "--phases", "examples,coverage,fuzzing"]
    command += ["--exclude-checks", "positive_data_acceptance"]  # a schema cannot say which bytes are a picture
    command += ["--max-examples", "900" if thorough else "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=running.folder.parent)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) >= (1000 if thorough else 100)
    assert running.alive()
