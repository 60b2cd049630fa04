"""The service: what it fills, what it refuses and how, its settings, its client, its end."""

import asyncio
import contextlib
import dataclasses
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from bad_uploads import form
from networks import one_thread  # noqa: F401 - applies itself
from PIL import ExifTags, Image
from services import BOX, HEIGHT, WIDTH, address, loaded, mask, picture, process, send, service, stored, tiny
from typer.testing import CliRunner

from lbam_fast import Inpainter
from lbam_fast.cli import app as commands
from lbam_fast.inference import OutOfMemoryError
from lbam_fast.service import Client, ServiceError, Settings, serve
from lbam_fast.service.batching import Batcher
from lbam_fast.service.engine import AT_ONCE, Answer, Engine
from lbam_fast.service.options import Options
from lbam_fast.service.pictures import Decoder

ROOT = Path(__file__).parent.parent
IMAGE, MASK = stored(picture()), stored(mask())


@pytest.fixture(scope="module")
def client():
    with service() as client:
        yield client


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The sentence of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"]) == (status, code), told
    assert ("Retry-After" in answer.headers) == (status == 503)
    return told["detail"]


# What it fills


def test_the_answer_is_what_the_inpainter_gives(client):
    answer = send(client, IMAGE, MASK, grow=2, feather=1)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/png"
    expected = Inpainter(tiny(), grow=2, feather=1)(picture(), mask())
    np.testing.assert_array_equal(loaded(answer.content), np.asarray(expected))
    assert answer.headers["Server-Timing"].startswith("upload;dur=") and answer.headers["LBAM-Strategy"] == "whole"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_the_format_and_the_metadata_stay(client, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    options = {} if kind == "BMP" else {"exif": exif.tobytes()}
    options |= {"lossless": True} if kind == "WEBP" else {}
    answer = send(client, stored(picture(), kind, **options), MASK)
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == kind
        assert kind == "BMP" or image.getexif()[ExifTags.Base.Make] == "Camera"
        known = np.ones((HEIGHT, WIDTH), bool)
        known[BOX] = False
        if kind != "JPEG":
            np.testing.assert_array_equal(np.asarray(image)[known], np.asarray(picture())[known])
    assert answer.headers["Content-Disposition"].startswith('inline; filename="filled.')


def test_what_is_transparent_is_the_hole_without_a_mask(client):
    layered = picture()
    layered.putalpha(Image.fromarray(255 - np.asarray(mask())))
    answer = send(client, stored(layered), hole="black")  # the colour of a mask, which has no say here
    filled = loaded(answer.content)
    assert filled.shape == (HEIGHT, WIDTH, 4) and (filled[..., 3] == 255).all()
    expected = np.asarray(Inpainter(tiny())(picture(), mask()))
    np.testing.assert_array_equal(filled[..., :3], expected)


def test_a_format_that_is_not_written_becomes_png_with_a_note(client):
    answer = send(client, stored(picture("L"), "GIF"), MASK)
    assert answer.headers["Content-Type"] == "image/png"
    assert "GIF is read but not written" in " ".join(json.loads(answer.headers["LBAM-Notes"]))
    assert send(client, IMAGE, MASK, format="webp").headers["Content-Type"] == "image/webp"


def test_a_picture_without_a_hole_comes_back_as_it_is(client):
    answer = send(client, IMAGE, stored(Image.new("L", (WIDTH, HEIGHT))), feather=3)
    assert answer.content == IMAGE
    notes = json.loads(answer.headers["LBAM-Notes"])
    assert any("has no hole" in note for note in notes) and any("feather is 3 but grow is 0" in note for note in notes)


def test_no_name_from_outside_is_used(client, tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(IMAGE)
    files = {"image": (str(outside), b"", "image/png"), "mask": ("../../etc/passwd", MASK)}
    assert "image: the file is empty" in refused(client.post("/v1/inpaint", files=files), 422, "bad_picture")
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%5capp.py", f"/static/{outside}"):
        refused(client.get(path), 404, "not_found")


# What it refuses


@pytest.mark.parametrize(
    ("files", "query", "status", "code", "words"),
    [
        ({"image": IMAGE}, {}, 422, "bad_picture", "no transparency"),
        ({"mask": MASK}, {}, 422, "bad_body", "no file image"),
        ({"image": IMAGE, "mask": MASK, "third": b"x"}, {}, 400, "bad_body", "Too many files"),
        ({"image": IMAGE, "picture": MASK}, {}, 422, "bad_body", "'picture'"),
        ({"image": b"no picture", "mask": MASK}, {}, 422, "bad_picture", "image: is not a picture"),
        ({"image": IMAGE[:200], "mask": MASK}, {}, 422, "bad_picture", "image: "),
        ({"image": IMAGE, "mask": IMAGE[:100]}, {}, 422, "bad_picture", "mask: "),
        ({"image": IMAGE, "mask": stored(mask(64, 64))}, {}, 422, "bad_picture", "the mask is 64x64 pixels"),
        ({"image": IMAGE, "mask": MASK}, {"grow": -1}, 422, "bad_option", "grow"),
        ({"image": IMAGE, "mask": MASK}, {"passes": 3}, 422, "bad_option", "passes"),
        ({"image": IMAGE, "mask": MASK}, {"gorw": 3}, 422, "bad_option", "gorw"),
        ({"image": IMAGE, "mask": MASK}, {"threshold": "nan"}, 422, "bad_option", "threshold"),
        ({"image": stored(picture("LA")), "mask": MASK}, {"format": "jpeg"}, 422, "bad_picture", "opacity"),
    ],
)
def test_a_bad_request_is_told_what_was_wrong(client, files, query, status, code, words):
    assert words in refused(client.post("/v1/inpaint", files=files, params=query), status, code)


def test_bodies_that_are_no_form(client):
    assert "multipart/form-data" in refused(client.post("/v1/inpaint", content=b"x"), 415, "bad_body")
    for content, header in ((b"x", "multipart/form-data"), (b"rubbish", "multipart/form-data; boundary=b")):
        refused(client.post("/v1/inpaint", content=content, headers={"Content-Type": header}), 400, "bad_body")
    header = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nhere it en'
    refused(client.post("/v1/inpaint", content=cut, headers=header), 422, "bad_body")
    refused(client.get("/v1/inpaint"), 405, "method")


def test_the_limits_on_bytes_and_pixels():
    with service(max_body=5000, max_pixels=HEIGHT * WIDTH - 1) as client:
        refused(send(client, bytes(6000), MASK), 413, "body_too_large")
        chunks = (b"x" * 1000 for _ in range(6))
        header = {"Content-Type": "multipart/form-data; boundary=b"}
        refused(client.post("/v1/inpaint", content=chunks, headers=header), 413, "body_too_large")
        assert "56 x 40 pixels" in refused(send(client, stored(picture("1")), MASK), 422, "bad_picture")
        assert client.get("/v1/limits").json()["max_pixels"] == HEIGHT * WIDTH - 1


def test_the_limits_on_requests_and_their_bytes():
    with service(queue=2, queue_bytes=10_000) as client:
        admission = client.app.state.admission
        with admission.entry(9000), pytest.raises(ServiceError) as caught, admission.entry(2000):
            pass
        assert (caught.value.status, caught.value.code) == (503, "memory_full")
        with admission.entry(10), admission.entry(10):
            refused(send(client, IMAGE, MASK), 503, "queue_full")
            refused(client.get("/readyz"), 503, "queue_full")
        assert client.get("/readyz").json() == {"status": "ready"}
        assert (admission.count, admission.size) == (0, 0)


class Slow(Inpainter):
    """Fills when it is let, and counts what it is given at a time."""

    def __init__(self) -> None:
        super().__init__(tiny(), detail="off")
        self.go, self.begun, self.given = threading.Event(), threading.Event(), []

    def fill(self, pictures, holes):
        self.begun.set()
        self.given.append(len(pictures))
        assert self.go.wait(60)
        return super().fill(pictures, holes)


@pytest.fixture
def slow(monkeypatch):
    inpainter = Slow()
    monkeypatch.setattr("lbam_fast.service.batching.variant", lambda *_: inpainter)
    return inpainter


def test_the_limit_on_time(slow):
    with service(slow, seconds=0.3) as client:
        start = time.perf_counter()
        assert "not done within 0.3 seconds" in refused(send(client, IMAGE, MASK), 503, "timed_out")
        assert time.perf_counter() - start < 20
        slow.go.set()
        deadline = time.monotonic() + 60
        while send(client, IMAGE, MASK).status_code != 200:  # it recovers
            assert time.monotonic() < deadline


def test_too_little_memory_is_a_503_and_no_end(slow, monkeypatch):
    def fill(*_):
        raise OutOfMemoryError("out of memory on cpu: try smaller pictures")

    with service(slow) as client:
        monkeypatch.setattr(slow, "fill", fill)
        assert "out of memory" in refused(send(client, IMAGE, MASK), 503, "memory")
        monkeypatch.setattr(slow, "fill", lambda *_: 1 / 0)
        assert refused(send(client, IMAGE, MASK), 500, "internal")
        monkeypatch.undo()
        assert client.get("/readyz").status_code == 200


def test_the_key_and_pages_of_other_sites():
    with service(api_key="secret", cors_origins="https://friend.example") as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic secret"},
            {"Authorization": "Bearer s\u00e9"},
        ):
            raw = {name: value.encode("latin-1") for name, value in headers.items()}
            refused(send(client, IMAGE, MASK, raw), 401, "key")
        refused(client.get("/metrics"), 401, "key")
        right = {"Authorization": "Bearer secret"}
        assert send(client, IMAGE, MASK, right).status_code == 200
        foreign = {**right, "Sec-Fetch-Site": "cross-site", "Origin": "https://enemy.example"}
        refused(send(client, IMAGE, MASK, foreign), 403, "cross_site")
        friend = send(client, IMAGE, MASK, {**foreign, "Origin": "https://friend.example"})
        assert friend.status_code == 200 and friend.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        assert client.get("/healthz").json() == {"status": "ok"}


def test_without_origins_no_other_page_may_read(client):
    answer = client.get("/v1/limits", headers={"Origin": "https://enemy.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


HOSTS = {
    **dict.fromkeys(("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "::1"), True),
    **dict.fromkeys(("enemy.example", "enemy.example:8000", "localhost.enemy.example", "192.0.2.1", "[::1", ""), False),
}


def test_only_its_own_names_are_answered(client):
    """A page may point its own name at this machine: to a browser the service then belongs to that page."""
    for name, answered in HOSTS.items():
        answer = client.get("/v1/limits", headers={"Host": name})
        assert answer.status_code == 200 if answered and name != "::1" else refused(answer, 400, "host"), name
    assert Settings(host="0.0.0.0").answers_to("any.example")
    for host in ("127.0.0.1", "0.0.0.0"):
        named = Settings(host=host, hosts="photos.example, Other.example")
        assert [named.answers_to(name) for name in ("photos.example", "other.example:80", "localhost")] == [True] * 3
        assert not named.answers_to("enemy.example")


# What it holds at a time, and its stop


@contextlib.contextmanager
def engine_of_small_room(slow, monkeypatch):
    """With room for pictures of this size alone; and a count of what it has decoded, on three threads."""
    decoded = []

    class Counting(Decoder):
        def __call__(self, *given):
            request = super().__call__(*given)
            time.sleep(0.01)
            decoded.append(request)
            return request

    monkeypatch.setattr("lbam_fast.service.engine.Decoder", Counting)
    monkeypatch.setattr("lbam_fast.service.engine.default_threads", lambda: 3)
    engine = Engine([slow], Settings(max_pixels=HEIGHT * WIDTH), told=lambda count: None)
    yield engine, decoded
    slow.go.set()
    engine.close()


async def reached(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_is_decoded_is_bounded_while_nothing_is_filled(slow, monkeypatch):
    async def scenario(engine, decoded) -> None:
        asking = [asyncio.create_task(engine.inpaint(IMAGE, MASK, Options())) for _ in range(20)]
        await reached(lambda: len(decoded) >= AT_ONCE)
        await asyncio.sleep(0.3)
        assert len(decoded) <= AT_ONCE + 3
        slow.go.set()
        assert len(await asyncio.gather(*asking)) == len(decoded) == 20

    with engine_of_small_room(slow, monkeypatch) as (engine, decoded):
        asyncio.run(scenario(engine, decoded))


def test_a_stop_is_told_to_those_that_wait_for_room(slow, monkeypatch):
    async def scenario(engine, decoded) -> None:
        asking = [asyncio.create_task(engine.inpaint(IMAGE, MASK, Options())) for _ in range(9)]
        await reached(lambda: len(decoded) >= AT_ONCE and slow.begun.is_set())
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        await reached(lambda: not engine.alive)
        slow.go.set()
        await closing
        refusals = [each for each in await asyncio.gather(*asking, return_exceptions=True) if not isinstance(each, Answer)]
        assert len(refusals) >= 9 - AT_ONCE - 3
        assert {(each.status, each.code) for each in refusals} == {(503, "stopping")}

    with engine_of_small_room(slow, monkeypatch) as (engine, decoded):
        asyncio.run(scenario(engine, decoded))


# Together through the network


def requests(count: int, size: tuple[int, int] = (HEIGHT, WIDTH), **options: object):
    decode = Decoder(10**6)
    data = stored(mask(*size))
    return [decode(stored(picture("RGB", seed, *size)), data, Options(**options)) for seed in range(count)]


def test_pictures_of_one_padded_size_share_a_pass_and_keep_their_bits(slow):
    batcher = Batcher([slow], batch=4)
    first, *others = requests(6)
    other_choice, other_size = requests(1, passes=2)[0], requests(1, (HEIGHT, 200))[0]
    tasks = [batcher.submit(first)]
    assert slow.begun.wait(60)  # alone, since nothing else was there
    tasks += [batcher.submit(each) for each in (others[0], other_choice, *others[1:], other_size)]
    slow.go.set()
    for task in tasks:
        request = task.request
        expected = Inpainter(tiny(), detail="off").fill([request.picture.pixels], [request.found.hole])[0]
        np.testing.assert_array_equal(task.future.result(60), expected)
    batcher.close()
    assert slow.given == [1, 4, 1, 1, 1]
    assert [task.together for task in tasks] == [1, 4, 1, 4, 4, 4, 1, 1]


def test_a_picture_waits_for_others_only_if_some_are_coming(slow):
    slow.go.set()
    for coming, least, most in ((True, 0.3, 20.0), (False, 0.0, 0.29)):
        batcher = Batcher([slow], batch=4, wait=0.3, coming=lambda coming=coming: coming)
        task = batcher.submit(requests(1)[0])
        task.future.result(60)
        assert least <= task.begun - task.arrived < most
        batcher.close()


def test_a_new_choice_holds_nobody_up(slow, monkeypatch):
    building = threading.Event()

    def build(*_):
        building.set()
        assert slow.go.wait(60)
        return slow

    monkeypatch.setattr("lbam_fast.service.batching.variant", build)
    batcher = Batcher([slow])
    first, second = requests(2)
    tasks = [batcher.submit(first)]
    assert building.wait(60)
    with ThreadPoolExecutor(1) as threads:
        try:
            tasks.append(threads.submit(batcher.submit, second).result(20))
        finally:
            slow.go.set()
    assert [task.future.result(60).shape for task in tasks] == [(HEIGHT, WIDTH, 3)] * 2
    batcher.close()
    with pytest.raises(ServiceError, match="stopping"):
        batcher.submit(first)


def test_each_gpu_is_current_on_its_thread(monkeypatch):
    chosen = {}
    monkeypatch.setattr("torch.cuda.set_device", lambda device: chosen.update({threading.current_thread().name: str(device)}))
    Batcher([SimpleNamespace(device=torch.device(name)) for name in ("cuda:0", "cuda:1", "cpu")]).close()
    assert chosen == {"lbam-fill-0": "cuda:0", "lbam-fill-1": "cuda:1"}


def test_several_cores_fill_two_at_once_where_there_is_memory(slow, monkeypatch):
    monkeypatch.setattr("lbam_fast.service.batching.hands_of", lambda inpainter: 2)
    for usable, expected in ((None, 2), (2, 1)):
        monkeypatch.setattr("lbam_fast.inference.hands.usable_memory", lambda device, usable=usable: usable)
        slow.go.clear()
        slow.given.clear()
        batcher = Batcher([slow], batch=4)
        tasks = [batcher.submit(each) for each in (requests(1)[0], requests(1, (HEIGHT, 200))[0])]
        deadline = time.monotonic() + (20 if expected == 2 else 0.5)
        while len(slow.given) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert slow.given == [1] * expected
        slow.go.set()
        assert [task.future.result(60).shape[1] for task in tasks] == [WIDTH, 200]
        batcher.close()


def test_what_lacks_memory_beside_others_is_filled_alone(slow, monkeypatch):
    """Two at once need more than there is: both are answered, the second once the first is done."""
    monkeypatch.setattr("lbam_fast.service.batching.hands_of", lambda inpainter: 2)
    slow.go.set()
    right, running, lacked, lock = slow.fill, [], [], threading.Lock()

    def fill(pictures, holes):
        with lock:
            running.append(1)
        time.sleep(0.2)
        try:
            if len(running) > 1:
                lacked.append(1)
                raise OutOfMemoryError("out of memory")
            return right(pictures, holes)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(slow, "fill", fill)
    batcher = Batcher([slow], batch=4)
    tasks = [batcher.submit(each) for each in (requests(1)[0], requests(1, (HEIGHT, 200))[0])]
    assert [task.future.result(60).shape[1] for task in tasks] == [WIDTH, 200] and lacked
    batcher.close()


def test_what_nobody_waits_for_is_not_done(slow):
    batcher = Batcher([slow])
    first, second, third = (batcher.submit(each) for each in requests(3))
    assert slow.begun.wait(60)
    assert first.future.running() or first.together == 3
    waiting = [task for task in (second, third) if task.future.cancel()]
    slow.go.set()
    batcher.close()
    assert sum(slow.given) == 3 - len(waiting)


def test_one_mask_has_one_hole_for_all(slow):
    one, other = requests(2)
    assert one.found is other.found


# Settings, commands, files


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 70000},
        {"queue": 0},
        {"batch": -1},
        {"api_key": ""},
        {"api_key": "a b"},
        {"seconds": "x"},
        {"max_pixels": True},
        {"device": "cpu,cpu"},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ServiceError, match=next(iter(settings))):
        Settings(**settings)


def test_every_setting_is_a_flag_and_nothing_else_is(monkeypatch):
    given = {}
    monkeypatch.setattr("lbam_fast.service.server.serve", lambda settings: given.update(dataclasses.asdict(settings)))
    values = {"int": "7", "float": "7.5", "str": "x", "int | None": "3", "str | None": "y"}
    flags, expected = [], {}
    for each in dataclasses.fields(Settings):
        text = values.get(str(each.type), "debug")
        flags += [f"--{each.name.replace('_', '-')}", text]
        expected[each.name] = {"7": 7, "7.5": 7.5, "3": 3}.get(text, text)
    assert CliRunner().invoke(commands, ["serve", *flags]).exit_code == 0
    assert given == expected
    monkeypatch.setenv("LBAM_SERVE_QUEUE", "9")
    CliRunner().invoke(commands, ["serve"])
    assert given == dataclasses.asdict(Settings(queue=9))
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    assert [each.name for each in dataclasses.fields(Settings) if f"`--{each.name.replace('_', '-')}`" not in page] == []


def test_without_the_extra_a_sentence_says_what_to_install():
    code = "import sys; sys.modules[{0!r}] = None; from lbam_fast.cli import app; app({1})"
    command = code.format("fastapi", ["serve"])
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'lbam-fast[serve]'" in done.stderr
    command = "import sys; sys.modules['httpx'] = None; from lbam_fast.service import Client; Client()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert "pip install 'lbam-fast[serve]'" in done.stderr.splitlines()[-1]


def test_help_and_the_client_load_nothing_heavy():
    heavy = "[m for m in ('torch', 'fastapi', 'pydantic', 'uvicorn', 'numpy', 'PIL') if m in sys.modules]"
    for code in ("import lbam_fast.cli, lbam_fast", "from lbam_fast.service import Client; Client().close()"):
        done = subprocess.run([sys.executable, "-c", f"import sys; {code}; print({heavy})"], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_page_is_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "service/static/*" in project["tool"]["setuptools"]["package-data"]["lbam_fast"]
    assert (ROOT / "lbam_fast" / "service" / "static" / "index.html").is_file()


def test_the_image_is_made_of_files_that_exist():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert copied and [name for name in copied if not (ROOT / name).exists()] == []


def test_the_description_has_examples_and_names_every_option(client):
    description = client.get("/openapi.json").json()
    told = description["paths"]["/v1/inpaint"]["post"]
    assert {each["name"] for each in told["parameters"]} == set(Options.model_fields)
    assert set(told["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]) == {"image", "mask"}
    assert "curl -F image=@" in told["x-codeSamples"][0]["source"]
    for status, answer in told["responses"].items():
        assert status == "200" or answer["content"]["application/problem+json"]["example"]["status"] == int(status)


def test_metrics_count_answers_and_batches(client):
    before = client.get("/metrics").text
    assert send(client, IMAGE, MASK).status_code == 200
    after = client.get("/metrics").text

    def value(text: str, name: str) -> float:
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    for name in ("lbam_answers_total", "lbam_batch_pictures_count", "lbam_request_seconds_count"):
        assert value(after, name) > value(before, name), name
    assert value(after, "lbam_pixels_total") - value(before, "lbam_pixels_total") == HEIGHT * WIDTH


# The client


def test_the_client(client, tmp_path):
    (tmp_path / "image.png").write_bytes(IMAGE)
    with Client("http://localhost", transport=client._transport) as asking:
        expected = send(client, IMAGE, MASK, grow=1).content
        ways = (IMAGE, bytearray(IMAGE), memoryview(IMAGE), io.BytesIO(IMAGE), picture())
        for given in (*ways, tmp_path / "image.png", str(tmp_path / "image.png")):
            filled = asking.inpaint(given, mask(), grow=1)
            np.testing.assert_array_equal(loaded(filled.data), loaded(expected))
        filled.save(tmp_path / "filled.png")
        np.testing.assert_array_equal(np.asarray(filled.image()), loaded((tmp_path / "filled.png").read_bytes()))
        with pytest.raises(ServiceError, match="the mask is 64x64") as caught:
            asking.inpaint(IMAGE, mask(64, 64))
        assert (caught.value.status, caught.value.code) == (422, "bad_picture")
        for given in (np.zeros((4, 4)), io.StringIO("text"), 3):
            with pytest.raises(ServiceError, match=f"given as {type(given).__name__}, expected a path"):
                asking.inpaint(given, MASK)
    with Client("http://127.0.0.1:9") as asking, pytest.raises(ServiceError, match="is lbam-fast serve running"):
        asking.inpaint(IMAGE, MASK)


def test_the_client_asks_a_full_service_again(monkeypatch):
    full = {"detail": "full", "code": "queue_full"}
    waits, answers = [], [httpx.Response(503, headers={"Retry-After": seconds}, json=full) for seconds in ("2", "0")]
    answers.append(httpx.Response(200, content=IMAGE, headers={"Content-Type": "image/png"}))
    monkeypatch.setattr("lbam_fast.service.client.time.sleep", waits.append)
    with Client(transport=httpx.MockTransport(lambda _: answers.pop(0))) as asking:
        assert asking.inpaint(IMAGE, MASK).data == IMAGE
    assert waits == [2, 1]
    full = httpx.Response(503, headers={"Retry-After": "2"}, text="no JSON")
    with Client(patience=1.0, transport=httpx.MockTransport(lambda _: full)) as asking, pytest.raises(ServiceError) as caught:
        asking.inpaint(IMAGE, MASK)
    assert (caught.value.status, caught.value.retry_after) == (503, 2)


# As a process


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    flags = ("--header-seconds", "1", "--upload-seconds", "1", "--connections", "20", "--max-body", "3000000")
    with process(tmp_path_factory.mktemp("service"), *flags) as found:
        yield found


def test_it_listens_on_this_machine_alone_and_logs_no_content(running):
    assert running.url.startswith("http://127.0.0.1:")
    with Client(running.url) as client, ThreadPoolExecutor(4) as threads:
        filled = list(threads.map(lambda _: client.inpaint(IMAGE, MASK).data, range(8)))
    assert len(set(filled)) == 1
    files = {"image": ("secret-name.png", IMAGE), "mask": MASK}
    assert httpx.post(f"{running.url}/v1/inpaint", files=files, timeout=60).status_code == 200
    (line, *_) = [each for each in running.lines() if each.get("path") == "/v1/inpaint"]
    assert line["size"] == [WIDTH, HEIGHT] and line["status"] == 200 and line["fill_seconds"] > 0
    assert "secret-name" not in running.log.read_text()


def test_connections_that_bring_nothing_are_ended(running):
    with socket.create_connection(address(running.url)) as idle:
        idle.settimeout(20)
        idle.sendall(b"POST /v1/inpaint HTTP/1.1\r\nHost: localhost\r\n")
        start = time.monotonic()
        assert idle.recv(1000) == b"" and time.monotonic() - start > 0.5
    with socket.create_connection(address(running.url)) as slow_body:
        slow_body.settimeout(20)
        head = "POST /v1/inpaint HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        slow_body.sendall(f"{head}Content-Length: 99\r\n\r\n".encode())
        assert b"408 Request Timeout" in slow_body.recv(4000)
    assert running.alive()


def test_a_length_and_chunks_are_refused(running):
    """Which of them counts is what smuggled requests live on."""
    head, _, body = form(IMAGE).partition(b"\r\n\r\n")
    chunked = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with socket.create_connection(address(running.url)) as line:
        line.settimeout(20)
        line.sendall(chunked)
        assert line.recv(4000).startswith(b"HTTP/1.1 400 ")


def test_one_connection_too_many_is_told_so(running):
    held = [socket.create_connection(address(running.url)) for _ in range(20)]
    try:
        with socket.create_connection(address(running.url)) as another:
            another.settimeout(20)
            assert another.recv(1000).startswith(b"HTTP/1.1 503 ")
    finally:
        for each in held:
            each.close()
    assert running.alive()


def test_a_body_that_is_too_large_gets_its_answer_before_it_is_sent(running):
    answer = httpx.post(f"{running.url}/v1/inpaint", files={"image": bytes(4_000_000)}, timeout=60)
    assert refused(answer, 413, "body_too_large")
    assert running.alive()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_finishes_what_was_accepted(tmp_path):
    with process(tmp_path, "--batch", "1") as found, ThreadPoolExecutor(6) as threads:
        large, hole = stored(picture("RGB", 0, 250, 250)), stored(mask(250, 250))
        with httpx.Client(base_url=found.url, timeout=120) as client:
            assert send(client, IMAGE, MASK).status_code == 200
            answers = [threads.submit(send, client, large, hole, passes=8, detail="off") for _ in range(4)]
            deadline = time.monotonic() + 60
            done, at_hand = 0, 0
            while done + at_hand < 4:
                assert time.monotonic() < deadline
                done = sum(each.done() for each in answers)
                at_hand = int(re.search(r"^lbam_requests (\d+)", client.get("/metrics").text, re.MULTILINE)[1])
            assert at_hand
            found.process.send_signal(signal.SIGTERM)
            assert [each.result().status_code for each in answers] == [200] * 4
        assert found.process.wait(60) == 128 + signal.SIGTERM
        assert found.lines()[-1]["event"] == "stopped"


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(commands, ["serve", "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2 and "choose another --host or --port" in done.stderr


def test_it_listens_when_it_says_so(monkeypatch):
    def come_at_once(event, **told):
        assert event == "listening"
        socket.create_connection(address(told["url"])).close()
        come_at_once.done = True

    monkeypatch.setattr("lbam_fast.service.server.log", come_at_once)
    for name in ("make_app", "start_logging", "_inpainters"):
        monkeypatch.setattr(f"lbam_fast.service.server.{name}", lambda *_: None)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_: None)
    serve(Settings(port=0))
    assert come_at_once.done


def test_a_client_that_goes_away_frees_its_place(slow):
    async def scenario() -> None:
        from lbam_fast.service import make_app

        app = make_app([slow])
        events = asyncio.Queue()
        content = httpx.Request("POST", "http://localhost", files={"image": IMAGE, "mask": MASK})
        await events.put({"type": "http.request", "body": content.read()})
        headers = [(name.lower().encode(), value.encode()) for name, value in content.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/v1/inpaint", "raw_path": b"/v1/inpaint", "query_string": b""}
        scope |= {"headers": headers, "state": {}, "http_version": "1.1", "scheme": "http", "root_path": "", "client": None}
        sent = []

        async def send(message) -> None:
            sent.append(message)

        serving = asyncio.create_task(app(scope, events.get, send))
        assert await asyncio.to_thread(slow.begun.wait, 60)
        assert app.state.admission.count == 1
        await events.put({"type": "http.disconnect"})
        await asyncio.wait_for(serving, 60)
        assert app.state.admission.count == 0
        slow.go.set()
        await asyncio.to_thread(app.state.engine.close)

    asyncio.run(scenario())
