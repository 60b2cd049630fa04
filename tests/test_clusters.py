"""Jobs on several devices and on a Ray cluster: what one process does, to the bit, also where a worker is lost."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import elsewhere
import forked
import pytest
from deadly import Deadly
from networks import one_thread  # noqa: F401 - applies itself
from test_cli_inpaint import files, pixels, save, save_mask, weights  # noqa: F401 - a fixture
from typer.testing import CliRunner

from lbam_fast.batch import Failed, Filled, Job, JobError, Skipped, Started, fill_on, pair_folder
from lbam_fast.batch.addresses import address_of, delivered, staged
from lbam_fast.batch.blocks import TRIES, Block, Outcome, Teller, blocks_of, given_up
from lbam_fast.batch.planning import WINDOW
from lbam_fast.batch.processes import devices_of
from lbam_fast.batch.ray import Places, places_of
from lbam_fast.cli import app
from lbam_fast.config import ConfigError


@pytest.fixture(scope="module")
def recipe(weights) -> Deadly:  # noqa: F811
    return Deadly.from_pretrained(weights, grow=1)


@pytest.fixture(scope="module")
def cluster():
    """Two workers of a Ray of this module's own."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'lbam-fast[ray]'")
    with elsewhere.cluster(workers=2) as call:
        yield call


@pytest.fixture
def forking(monkeypatch):
    """Processes for devices are there at once, though not as users have them."""
    monkeypatch.setattr(
        "lbam_fast.batch.processes.multiprocessing", SimpleNamespace(get_context=lambda _: forked.context("deadly"))
    )


@pytest.fixture
def fill(request):
    """As ``elsewhere.told`` on two workers, of either engine."""
    if request.param == "ray":
        return functools.partial(request.getfixturevalue("cluster"), elsewhere.fill)
    if request.param == "forked processes":
        request.getfixturevalue("forking")
    return functools.partial(elsewhere.told, functools.partial(fill_on, ["cpu", "cpu"]))


engines = pytest.mark.parametrize("fill", ["processes", pytest.param("ray", marks=pytest.mark.sampled)], indirect=True)
ROOT = Path(__file__).parent.parent
ENGINES = ["forked processes", *(pytest.param(name, marks=pytest.mark.sampled) for name in ("processes", "ray"))]
one_engine = pytest.mark.parametrize("fill", ENGINES, indirect=True)


def folder_of(place: Path, count: int) -> Path:
    """Pictures of two padded sizes, so that batches depend on who is with whom; one is none, one has a mask of another size."""
    for i in range(count):
        height = 40 if i % 3 else 140
        save(place / "p" / f"{i:03}.png", pixels(i, height=height))
        save_mask(place / "m" / f"{i:03}.png", height=height)
    (place / "p" / "001.png").write_text("no picture")
    save_mask(place / "m" / "004.png", height=39)
    return place


def jobs_in(place: Path, output: str) -> list[Job]:
    return pair_folder(place / "p", place / "m", place / output).jobs


def ends(happened):
    """The end of each job, which must be one; failed ones with their sentences."""
    found = [event for event in happened if not isinstance(event, Started)]
    assert max(Counter(event.job.image for event in found).values()) == 1
    return {event.job.image.name: str(event.error) if isinstance(event, Failed) else type(event) for event in found}


def started(happened):
    found = [event for event in happened if isinstance(event, Started)]
    assert len({event.job for event in found}) == len(found)
    return {(event.job.image.name, event.notes, event.warnings, event.size, event.hole) for event in found}


def assert_as_local(place: Path, happened, expected) -> None:
    assert ends(happened) == ends(expected) and started(happened) == started(expected)
    assert files(place / "many") == files(place / "one")
    for name in files(place / "one"):
        assert (place / "many" / name).read_bytes() == (place / "one" / name).read_bytes(), name


def filled_here(recipe: Deadly, jobs: list[Job], **options: object):
    return recipe.filler("cpu").fill(jobs, **options)


@pytest.fixture
def place(tmp_path) -> Path:
    return folder_of(tmp_path, WINDOW + 4)


@pytest.fixture
def expected(place, recipe):
    """What one process does, into the folder "one"."""
    return list(filled_here(recipe, jobs_in(place, "one"), make_folders=True))


@engines
def test_two_workers_do_as_one_does_though_one_is_killed(fill, recipe, place, expected):
    marks = place / "marks"
    marks.mkdir()
    deadly = dataclasses.replace(recipe, picture="010.png", times=1, marks=marks)
    assert_as_local(place, fill(deadly, jobs_in(place, "many"), make_folders=True), expected)
    assert len(list(marks.iterdir())) == 1


@one_engine
def test_a_block_that_loses_every_worker_is_given_up(fill, recipe, place, expected):
    marks = place / "marks"
    marks.mkdir()
    deadly = dataclasses.replace(recipe, picture="010.png", times=99, marks=marks)
    found = ends(fill(deadly, jobs_in(place, "many"), make_folders=True))
    assert len(list(marks.iterdir())) == TRIES
    assert {name for name, end in found.items() if end is Filled} == {f"{i:03}.png" for i in range(WINDOW, WINDOW + 4)}
    assert all("times" in end and "enough memory" in end for name, end in found.items() if name < f"{WINDOW:03}")


@one_engine
def test_a_journal_serves_whoever_goes_on(fill, recipe, place, expected):
    """Jobs of a window that are done are not done again, the others give what they would have given."""
    jobs = jobs_in(place, "many")
    (place / "many").mkdir()
    fill(recipe, jobs, journal=place / "many")
    lost = ["000.png", "006.png"]
    for name in lost:
        (place / "many" / name).unlink()
    found = ends(fill(recipe, jobs, journal=place / "many"))
    assert {name for name, end in found.items() if end is Filled} == set(lost)
    assert Counter(found.values())[Skipped] == WINDOW + 4 - 4
    for name in files(place / "one"):
        assert (place / "many" / name).read_bytes() == (place / "one" / name).read_bytes()
    again = elsewhere.told(filled_here, recipe, jobs, journal=place / "many")
    assert Counter(ends(again).values())[Skipped] == WINDOW + 2


@one_engine
def test_stopping_begins_nothing_more(fill, recipe, place):
    happened = fill(recipe, jobs_in(place, "many"), make_folders=True, stopped=True)
    done = {event.job.output.name for event in happened if isinstance(event, Filled)}
    assert len(done) < WINDOW and done == files(place / "many")


# The parts


def test_blocks_are_whole_windows_and_enough_of_them():
    jobs = [Job(Path(f"{i}.png"), None, Path("o") / f"{i}.png") for i in range(40 * WINDOW + 3)]
    for workers in (1, 2, 8, 100):
        blocks, skipped = blocks_of(jobs, workers, None, None)
        assert [job for block in blocks for job in block.jobs] == jobs and not skipped
        assert all(len(block.jobs) % WINDOW == 0 for block in blocks[:-1])
        assert len(blocks) >= min(41, 4 * workers)


def test_an_event_that_comes_again_is_told_once():
    job = Job(Path("a.png"), None, Path("b.png"))
    block, teller = Block((job,)), Teller(None)
    again = [Outcome(Started(job)), Outcome(Started(job)), Outcome(Filled(job)), Outcome(Started(job)), Outcome(Filled(job))]
    assert [type(event) for event in teller.tell([*again, *given_up(block, "lost")])] == [Started, Filled]


def test_a_worker_of_another_version_is_refused(recipe):
    with pytest.raises(JobError, match="install one version everywhere"):
        dataclasses.replace(recipe, version="0.0.1").filler("cpu")


def test_a_device_that_does_not_exist_is_an_error_of_the_run(forking, recipe, place):
    with pytest.raises(ConfigError, match="the device 'no' cannot be used"):
        list(fill_on(["no"], recipe, jobs_in(place, "many")[:1]))


def test_auto_is_all_gpus_of_a_machine(monkeypatch):
    assert devices_of("cuda:1, cuda:3") == ["cuda:1", "cuda:3"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert devices_of("auto") == ["cpu"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert devices_of("auto") == ["cuda:0", "cuda:1", "cuda:2"]


HEAD, CPU, GPU = {"CPU": 8.0}, {"CPU": 32.0}, {"CPU": 48.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("machines", "workers", "device", "expected"),
    [
        ([CPU, CPU], None, "auto", Places(2, 32.0, 0)),
        ([CPU, HEAD], None, "auto", Places(2, 8.0, 0)),  # each must find room anywhere
        ([CPU], 3, "auto", Places(3, 10.0, 0)),
        ([{"CPU": 2.0}], 4, "auto", Places(4, 0.5, 0)),  # more than cores
        ([HEAD, GPU, GPU], None, "auto", Places(8, 12.0, 1)),
        ([HEAD, GPU, GPU], 2, "cuda", Places(2, 12.0, 1)),
        ([HEAD, GPU], None, "cpu", Places(2, 8.0, 0)),
    ],
)
def test_where_workers_go(machines, workers, device, expected):
    assert places_of(machines, workers, device) == expected


def test_machines_without_what_is_asked_for_are_an_error():
    with pytest.raises(JobError, match="no machine of the Ray cluster has a GPU"):
        places_of([CPU], None, "cuda")


# Addresses


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a/b.png", "s3://bucket/a/b.png"),
        ("file:///tmp/b.png", "file:///tmp/b.png"),
        ("/tmp/s3:/b.png", None),
        ("folder/b.png", None),
        ("C:/b.png", None),
    ],
)
def test_addresses_are_known_though_a_path_drops_a_slash(given, expected):
    assert address_of(Path(given)) == expected


@pytest.fixture
def memory():
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def test_a_result_is_sent_to_its_address_once_it_is_filled(recipe, place, tmp_path, memory):
    jobs = [dataclasses.replace(job, output=Path("memory://made/deep") / job.output.name) for job in jobs_in(place, "o")[:4]]
    with tempfile.TemporaryDirectory() as folder:
        by_other = staged(jobs, Path(folder))
        told = [delivered(event, by_other[event.job]) for event in recipe.filler("cpu").fill(list(by_other))]
        assert not files(Path(folder))
    assert {event.job for event in told} == set(jobs)
    expected = ends(recipe.filler("cpu").fill(jobs_in(place, "one")[:4], make_folders=True))
    assert ends(told) == expected
    names = {name for name, end in expected.items() if end is Filled}
    assert len(names) == 3 and set(memory.store) == {f"/made/deep/{name}" for name in names}
    for name in names:
        assert memory.cat(f"/made/deep/{name}") == (place / "one" / name).read_bytes()


def test_a_result_that_cannot_be_sent_is_a_failed_job(recipe, place, memory, monkeypatch):
    monkeypatch.setattr(type(memory), "makedirs", lambda *given, **options: (_ for _ in ()).throw(OSError("no room")))
    job = dataclasses.replace(jobs_in(place, "o")[0], output=Path("memory://made/000.png"))
    with tempfile.TemporaryDirectory() as folder:
        by_other = staged([job], Path(folder))
        *_, end = [delivered(event, by_other[event.job]) for event in recipe.filler("cpu").fill(list(by_other))]
    assert str(end.error) == "memory://made/000.png: cannot be written (no room); check the address and what you may do there"


# The command line


def lbam_fast(*arguments: object):
    return CliRunner().invoke(app, ["inpaint", *map(str, arguments)])


def test_the_command_line_with_ray(cluster, weights, place, expected):  # noqa: F811
    """Into an address, here of this machine's own files, with a report."""
    common = [place / "p", place / "m", "--weights", weights, "--grow", 1, "--engine", "ray", "--workers", 1]
    options = ["-o", f"file://{place / 'many'}", "--report", place / "report.json"]
    code, printed, complaints = cluster(elsewhere.command, "inpaint", *map(str, [*common, *options]))
    assert code == 1 and f"18 filled, 0 skipped, 2 failed: file://{place / 'many'}\n" in printed
    assert complaints.count("\n") == 2
    assert files(place / "many") == files(place / "one")
    report = json.loads((place / "report.json").read_text())
    assert report["device"] == "1 x cpu" and report["totals"]["filled"] == 18


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--address", "a:1"], "--address a:1 goes with --engine ray"),
        (["--workers", 2], "--workers 2 goes with --engine ray"),
        (["--device", "cpu,cuda:0"], "results differ between kinds of devices"),
        (["--engine", "ray", "--threads", 2], "--threads goes with --engine local"),
        (["--engine", "ray", "--precision", "auto"], "--precision auto goes with --engine local"),
        (["--engine", "ray", "--workers", 0], "workers is 0, expected at least 1"),
        (["--engine", "ray", "--device", "cuda:1"], "expected auto, cpu or cuda"),
    ],
)
def test_options_that_do_not_go_together(place, arguments, sentence):
    done = lbam_fast(place / "p", place / "m", "-o", place / "o", *arguments)
    assert done.exit_code == 2 and sentence in done.stderr and not (place / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [([], "with --engine ray alone"), (["--engine", "ray", "--resume"], "--resume and --skip-existing go with a folder")],
)
def test_addresses_go_with_ray_and_without_a_journal(place, arguments, sentence):
    done = lbam_fast(place / "p", place / "m", "-o", "memory://o", *arguments)
    assert done.exit_code == 2 and sentence in done.stderr


def test_several_devices_of_this_machine(forking, weights, place, expected):  # noqa: F811
    done = lbam_fast(place / "p", place / "m", "-o", place / "many", "--weights", weights, "--grow", 1, "--device", "cpu,cpu")
    assert done.exit_code == 1 and "18 filled" in done.stdout
    assert {name: (place / "many" / name).read_bytes() for name in files(place / "one")} == {
        name: (place / "one" / name).read_bytes() for name in files(place / "one")
    }


def test_without_ray_one_sentence_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = lbam_fast(place / "p", place / "m", "-o", place / "o", "--engine", "ray")
    assert done.exit_code == 2 and done.stderr.startswith("error: many machines need Ray: pip install 'lbam-fast[ray]'")


def test_help_loads_neither_ray_nor_fsspec():
    code = "import sys, lbam_fast.cli; print([m for m in ('ray', 'fsspec', 'torch', 'multiprocessing') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# At length


def test_a_hundred_pictures_with_a_worker_killed_from_outside(cluster, recipe, tmp_path, thorough):
    if not thorough:
        pytest.skip("slow: make test-all runs it")
    place = folder_of(tmp_path, 100)
    expected = list(recipe.filler("cpu").fill(jobs_in(place, "one"), make_folders=True))
    killed = threading.Thread(target=lambda: kill_worker_once(place / "many", 20))
    killed.start()
    assert_as_local(place, cluster(elsewhere.fill, recipe, jobs_in(place, "many"), make_folders=True), expected)
    killed.join()


def kill_worker_once(output: Path, results: int) -> None:
    while not output.is_dir() or len(files(output)) < results:
        time.sleep(0.01)
    os.kill(min(ray_workers()), signal.SIGKILL)


def ray_workers() -> set[int]:
    """Actors with a network that this process has started, through Ray's own processes."""
    parents, titles = {}, {}
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parents[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(each.name)] = (each / "cmdline").read_text()
    found = set()
    for process, title in titles.items():
        above = process
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and title.startswith("ray::") and "_Worker" in title:
            found.add(process)
    return found


WHERE = """
import sys
from lbam_fast.batch.ray import connected
import lbam_fast, ray

with connected("local", workers=1):
    print(lbam_fast.__file__)
    print(ray.get(ray.remote(lambda: __import__("lbam_fast.batch.ray").__file__).remote()))
"""


def test_workers_start_from_the_installed_wheel(weights, place, expected, tmp_path, thorough):  # noqa: F811
    """In a fresh environment, which sees the libraries of this one, with a folder in the way that is called as the package is."""
    if not thorough:
        pytest.skip("slow: make test-all runs it")
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'lbam-fast[ray]'")
    python = installed(tmp_path)
    way = tmp_path / "way"
    (way / "lbam_fast").mkdir(parents=True)
    (way / "lbam_fast" / "__init__.py").write_text("raise RuntimeError('the checkout')")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "where.py").write_text(WHERE)
    found = run(way, python, tmp_path / "scripts" / "where.py").splitlines()
    assert len(found) == 2 and all(Path(each).is_relative_to(tmp_path / "fresh") for each in found)
    common = [place / "p", place / "m", "--weights", weights, "--detail", "off", "--quiet"]
    for name, further in (("local", []), ("rays", ["--engine", "ray", "--workers", "2"])):
        run(way, python.with_name("lbam-fast"), "inpaint", *common, "-o", place / name, *further, code=1)
    assert len(files(place / "local")) == 18
    for name in files(place / "local") | files(place / "rays"):
        assert (place / "local" / name).read_bytes() == (place / "rays" / name).read_bytes()


def installed(folder: Path) -> Path:
    """The Python of a new environment with a wheel of this checkout, and with the libraries that this Python has."""
    kept = shutil.ignore_patterns("_native", "__pycache__")
    for name in ("lbam_fast", "kernels"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=kept)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    run(folder, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "wheels", folder / "tree")
    venv.create(folder / "fresh", symlinks=True)
    python = folder / "fresh" / "bin" / "python"
    (packages,) = (folder / "fresh").glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(each for each in sys.path if each.endswith("-packages")))
    (wheel,) = (folder / "wheels").glob("lbam_fast-*.whl")
    run(folder, sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--ignore-installed", wheel)
    return python


def run(where: Path, *command: object, code: int = 0) -> str:
    """What it printed, with that exit code."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"LBAM_NATIVE": "0"}
    done = subprocess.run(list(map(str, command)), cwd=where, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout
