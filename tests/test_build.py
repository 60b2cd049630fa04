"""The build of csrc from a clean copy; its C++ tests, also under sanitizers and valgrind; what is decided without tools."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lbam_fast.native import INSTRUCTION_SETS
from lbam_fast.reference import attention_map, mask_update

ROOT = Path(__file__).parent.parent
INSTALLED = ROOT / "build" / "native"
SOURCES = ("CMakeLists.txt", "setup.py", "csrc")
MISSING = [name for name in ("c++", "cmake", "ninja") if shutil.which(name) is None]
compiler = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def run(*command: str | Path, **variables: str) -> str:
    """What it printed; an error if it failed."""
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copied(folder: Path) -> Path:
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    return folder


def configured(source: Path, build: Path, *options: str, **variables: str) -> Path:
    run("cmake", "-S", source, "-B", build, "-G", "Ninja", *options, **{"LBAM_CUDA_ARCHITECTURES": "none", **variables})
    return build


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return copied(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def plain(source, thorough) -> Path:
    """All of it from a clean copy; in a sampled run the tests alone, on what the installation built here."""
    cache = INSTALLED / "CMakeCache.txt"
    installed_here = cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n" in cache.read_text()
    if thorough or not installed_here:
        build = configured(source, source / "plain", "-DLBAM_TESTS=ON")
        run("cmake", "--build", build, "--target", "native")
    else:
        build = INSTALLED
        run("cmake", "-DLBAM_TESTS=ON", build)
    run("cmake", "--build", build, "--target", "tests")
    return build


@pytest.fixture(scope="module")
def sanitized(source, thorough) -> Path:
    """In a sampled run as on a processor whose instruction sets we do not know, unoptimised and in one piece: little work."""
    options = ["-DLBAM_TESTS=ON", "-DLBAM_SANITIZE=ON"]
    if not thorough:
        (source / "unknown.cmake").write_text("set(CMAKE_SYSTEM_PROCESSOR unknown)\n")
        options += [f"-DCMAKE_PROJECT_lbam_fast_INCLUDE={source / 'unknown.cmake'}", "-DCMAKE_BUILD_TYPE=Debug"]
        options += ["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0"]
    build = configured(source, source / "sanitized", *options)
    run("cmake", "--build", build, "--target", "tests")
    return build


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """a mu gamma_l gamma_r alpha m g_A g_M, of the reference in float64."""
    path = tmp_path_factory.mktemp("table") / "golden.txt"
    m = torch.cat([torch.linspace(-4, 8, 121), torch.tensor([1e-30, 1e-4, 100.0, 1e6])]).double()
    lines = []
    for scalars in ([1.1, 2.0, 1.0, 1.0], [1.1, 1.0, 0.5, 0.5], [6.0, 0.125, 2.0, 0.5]):
        for alpha in (0.6, 0.8):
            exact = torch.tensor(scalars, dtype=torch.float64)
            values = zip(m, attention_map(m, *exact), mask_update(m, alpha), strict=True)
            lines += [" ".join(f"{float(x):.17g}" for x in (*scalars, alpha, *row)) for row in values]
    path.write_text("\n".join(lines) + "\n")
    return path


def passes(build: Path, program: str, name: str, *arguments: str, under: tuple[str, ...] = ()) -> None:
    """That C++ test with that instruction set."""
    command = [*under, str(build / "bin" / "tests" / program), *arguments]
    done = subprocess.run(command, env={**os.environ, "LBAM_CPU": name}, capture_output=True, text=True, check=False)
    if "this processor has" in done.stderr:
        pytest.skip(f"this processor has no {name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{name}: all right\n"


@compiler
def test_the_formulas(plain, table):
    assert run(plain / "bin" / "tests" / "test_formulas", table) == "all right\n"


@compiler
def test_the_formulas_under_sanitizers(sanitized, table):
    assert run(sanitized / "bin" / "tests" / "test_formulas", table) == "all right\n"


@compiler
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_the_kernels(plain, name, thorough):
    passes(plain, "test_kernels", name)
    passes(plain, "test_layers", name, "1" if thorough else "8")


@compiler
@pytest.mark.parametrize(
    "name", [INSTRUCTION_SETS[0], *(pytest.param(name, marks=pytest.mark.sampled) for name in INSTRUCTION_SETS[1:])]
)
def test_the_kernels_under_sanitizers(sanitized, name, thorough):
    passes(sanitized, "test_kernels", name, *(() if thorough else ("quick",)))
    passes(sanitized, "test_layers", name, "1" if thorough else "80")


@pytest.mark.sampled
@compiler
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("name", INSTRUCTION_SETS[:2])  # it knows no AVX-512
def test_the_kernels_under_valgrind(plain, name, thorough):
    valgrind = "valgrind", "-q", "--error-exitcode=9"
    passes(plain, "test_kernels", name, *(() if thorough else ("quick",)), under=valgrind)
    passes(plain, "test_layers", name, "50" if thorough else "340", under=valgrind)


@compiler
def test_the_cpp_tests_can_fail(plain, table):
    """Planted fault: what they expect is off by a thousandth of mu."""
    for command in (["test_formulas", str(table)], ["test_kernels", "quick"]):
        done = subprocess.run(
            [plain / "bin" / "tests" / command[0], *command[1:]],
            env={**os.environ, "LBAM_FAULT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "expected" in done.stdout and done.stdout.endswith("faults\n")


@compiler
@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("filter", ("pack", "filter_gradient", "encode_with_map", "mask_step", "decode_with_map", "reconstruct")),
        ("kind", ("mask_step", "spread")),
        ("needed", ("decode_with_map", "reconstruct", "needs")),
        ("read", ("pack", "filter_gradient", "encode_with_map", "mask_step", "decode_with_map", "reconstruct")),
        ("unwritten", ("pack", "filter_gradient", "encode_with_map", "mask_step", "decode_with_map", "reconstruct")),
        ("outside", ("pack", "filter_gradient", "encode_with_map", "mask_step", "decode_with_map", "reconstruct")),
        ("thread", ("pack", "filter_gradient", "encode_with_map", "mask_step", "decode_with_map", "reconstruct")),
    ],
)
def test_the_tests_of_layers_can_fail(plain, fault, checks):
    for check in checks:
        command = plain / "bin" / "tests" / "test_layers", "50", check
        done = subprocess.run(command, env={**os.environ, "LBAM_FAULT": fault}, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stdout.endswith(" faults\n"), check


@compiler
def test_a_wrong_table_is_caught(plain, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[50] = lines[50].rsplit(" ", 1)[0] + " 0.123"
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("\n".join(lines))
    for path in (wrong, tmp_path / "absent.txt"):
        done = subprocess.run([plain / "bin" / "tests" / "test_formulas", path], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout


@compiler
def test_the_binding_needs_pytorch_alone_and_shows_nothing(plain):
    library = plain / "bin" / "lbam_native_cpu.so"
    if sys.platform != "linux":
        pytest.skip("reads ELF files")
    assert run("nm", "-D", "--defined-only", library) == ""
    wanted = [line.split()[-1] for line in run("nm", "-D", "--undefined-only", library).splitlines()]
    assert [name for name in wanted if name.startswith("aoti_torch_")]
    assert not [name for name in wanted if name.startswith(("_Py", "Py", "_ZN2at", "_ZN3c10", "_ZN5torch"))]
    assert json.loads((plain / "bin" / "status.json").read_text())["cpu"] == ""


@compiler
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_instruction_sets_share_no_function(plain, name):
    """The linker keeps one of several weak symbols: of a shared one perhaps that with instructions the processor lacks."""
    objects = sorted((plain / "CMakeFiles" / f"lbam_cpu_{name}.dir").rglob("*.o"))
    if not objects:
        pytest.skip(f"not built for {name}")
    assert not shared_functions(objects)


def shared_functions(objects: list[Path]) -> list[str]:
    symbols = [line.split()[-2:] for line in run("nm", *objects).splitlines() if len(line.split()) >= 2]
    return [name for kind, name in symbols if kind in "WwVu" and not name.startswith("DW.ref.")]


@compiler
def test_a_shared_function_is_caught(tmp_path):
    (tmp_path / "a.cpp").write_text("inline int f() { return 1; }\nint (*pointer)() = f;\n")
    run("c++", "-c", tmp_path / "a.cpp", "-o", tmp_path / "a.o")
    assert shared_functions([tmp_path / "a.o"]) == ["_Z1fv"]


def headers() -> Path:
    return Path(os.environ.get("LBAM_TORCH_HEADERS") or Path(torch.__file__).parent / "include")


def compared(source: Path) -> subprocess.CompletedProcess[str]:
    """The binding compiled with PyTorch's own declarations beside ours."""
    command = [
        "c++",
        "-std=c++17",
        "-fsyntax-only",
        "-DLBAM_TORCH_HEADERS",
        "-isystem",
        headers(),
        source / "csrc/binding/cpu.cpp",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@compiler
@pytest.mark.skipif(not (headers() / "torch/csrc/stable").is_dir(), reason="this PyTorch came without headers")
def test_our_declarations_are_pytorchs(source, tmp_path):
    done = compared(source)
    assert done.returncode == 0, done.stderr
    wrong = copied(tmp_path) / "csrc/binding/stable_abi.h"
    text = wrong.read_text()
    assert "aoti_torch_get_dim(AtenTensorHandle tensor, std::int64_t* ret)" in text
    wrong.write_text(
        text.replace("get_dim(AtenTensorHandle tensor, std::int64_t*", "get_dim(AtenTensorHandle tensor, std::int32_t*")
    )
    assert "conflicting declaration" in compared(tmp_path).stderr or "conflicting types" in compared(tmp_path).stderr


def decision(source: Path, path: Path, expression: str, **variables: str):
    """What setup.py says with no tools but those in ``path``."""
    code = (
        "import json, runpy, sysconfig\n"
        f"sysconfig.get_path = lambda name: {str(path)!r}\n"
        f"names = runpy.run_path({str(source / 'setup.py')!r})\n"
        f"print(json.dumps({expression}, default=str))"
    )
    return json.loads(run(sys.executable, "-c", code, PATH=str(path), CXX="", **variables))


def linked(folder: Path, *names: str) -> Path:
    for name in names:
        if found := shutil.which(name):
            (folder / name).symlink_to(Path(found).resolve() if name == "c++" else found)
    return folder


def test_without_any_tool(tmp_path):
    reason = decision(ROOT, tmp_path, "names['obstacle']()")
    assert reason.startswith("no C++ compiler was found; install one")
    assert decision(ROOT, tmp_path, "names['tools_to_fetch']()") == []
    assert decision(ROOT, tmp_path, "names['native']()") == [{"cpu": reason, "cuda": reason}, []]


@compiler
def test_with_a_compiler_alone(tmp_path):
    linked(tmp_path, "c++")
    assert decision(ROOT, tmp_path, "names['obstacle']()").startswith("CMake 3.22 or newer was not found; pip install cmake")
    assert decision(ROOT, tmp_path, "names['tools_to_fetch']()") == ["cmake", "ninja"]


@compiler
def test_with_an_old_cmake(tmp_path):
    linked(tmp_path, "c++", "ninja")
    (tmp_path / "cmake").write_text("#!/bin/sh\necho cmake version 3.16.3\n")
    (tmp_path / "cmake").chmod(0o755)
    assert decision(ROOT, tmp_path, "names['tools_to_fetch']()") == ["cmake"]


@compiler
def test_switched_off(tmp_path):
    linked(tmp_path, "c++")
    assert "LBAM_NATIVE=0" in decision(ROOT, tmp_path, "names['obstacle']()", LBAM_NATIVE="0")
    assert decision(ROOT, tmp_path, "names['tools_to_fetch']()", LBAM_NATIVE="0") == []


@compiler
def test_a_broken_source_is_told_and_ends_nothing(tmp_path):
    source = copied(tmp_path)
    for file in (source / "csrc/cpu").glob("*.cpp"):
        file.write_text("")  # little to do until the fault is met
    (source / "csrc/cpu/dispatch.cpp").write_text("this is no C++\n")
    code = "import runpy, json; print(json.dumps(runpy.run_path('setup.py')['native'](), default=str))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={**os.environ, "LBAM_CUDA_ARCHITECTURES": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, files = json.loads(done.stdout.splitlines()[-1])
    assert files == []
    assert status["cpu"].startswith("the build failed: ") and "error" in status["cpu"]


@compiler
@pytest.mark.parametrize("architectures", ["none", ""])
def test_cuda_can_be_switched_off(source, architectures, tmp_path):
    assert "LBAM_CUDA_ARCHITECTURES" in cuda(configured(source, tmp_path, LBAM_CUDA_ARCHITECTURES=architectures))


@compiler
def test_without_nvcc(source, tmp_path):
    """Every place where CMake would look for it is hidden."""
    places = {str(Path(shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc").parent), "/usr/local/cuda/bin"}
    if str(Path(shutil.which("c++")).parent) in places:
        pytest.skip("nvcc lies beside the other compilers")
    hidden = f"-DCMAKE_IGNORE_PATH={';'.join(places)}", f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}"
    build = configured(source, tmp_path, *hidden, LBAM_CUDA_ARCHITECTURES="90a", CUDA_HOME="", CUDA_PATH="", CUDACXX="")
    assert cuda(build).startswith("nvcc was not found; install the CUDA toolkit")


@compiler
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_with_nvcc(source, tmp_path):
    """Nothing of CUDA is compiled here, and no GPU is needed."""
    build = configured(source, tmp_path, LBAM_CUDA_ARCHITECTURES="90a")
    assert "nvcc" not in cuda(build)
    assert "sm_90a" in (build / "build.ninja").read_text()


def cuda(build: Path) -> str:
    return json.loads((build / "bin" / "status.json").read_text())["cuda"]


@compiler
def test_wheels_and_editable_installs(tmp_path, thorough):
    """Where a compiler is there and where not, in isolation and without."""
    if not thorough:
        pytest.skip("slow: make test-all runs it")
    print(run("bash", ROOT / "csrc/tests/install_conditions.sh", tmp_path, PYTHON=sys.executable))
