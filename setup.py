"""The package is described in pyproject.toml; its parts that lie beside it in the repository are added here.

The compiled ones are built by CMake where a compiler is found, and left out where not: docs/building.md.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import SubCommand, build

MODE = os.environ.get("LBAM_NATIVE", "auto")  # "0": don't build, "require": fail where it cannot be built
ROOT = Path(__file__).resolve().parent
WORK = ROOT / "build" / "native"
FOLDER = Path("lbam_fast", "_native")
OLDEST_CMAKE = (3, 22)
AGAIN = "and install lbam-fast again"


def tool(name: str) -> str | None:
    """On the PATH, or installed by pip beside this Python."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def compiler() -> str | None:
    named = os.environ.get("CXX")
    return shutil.which(named.split()[0]) if named else tool("c++") or tool("g++") or tool("clang++")


def cmake() -> str | None:
    if not (path := tool("cmake")):
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    return path if found and (int(found[1]), int(found[2])) >= OLDEST_CMAKE else None


def tools_to_fetch() -> list[str]:
    """What pip should put into the build environment: nothing where nothing can be compiled."""
    if MODE == "0" or os.name == "nt" or not compiler():
        return []
    return [name for name, path in (("cmake", cmake()), ("ninja", tool("ninja"))) if not path]


def obstacle() -> str:
    """Why nothing can be compiled here, and what to do; "" if it can."""
    if MODE == "0":
        return f"switched off by LBAM_NATIVE=0; unset it {AGAIN}"
    if os.name == "nt":
        return "the compiled kernels are not built on Windows"
    if not compiler():
        return f"no C++ compiler was found; install one (Debian, Ubuntu: apt install g++) {AGAIN}"
    if not cmake():
        return f"CMake {'.'.join(map(str, OLDEST_CMAKE))} or newer was not found; pip install cmake {AGAIN}"
    if not tool("ninja"):
        return f"Ninja was not found; pip install ninja {AGAIN}"
    return ""


def compiled(environment: dict[str, str]) -> str:
    """Run CMake; the first error, or "" for none."""
    cache = WORK / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n" not in cache.read_text():
        shutil.rmtree(WORK)  # of a tree that was moved or copied
    configure = [cmake(), "-S", ROOT, "-B", WORK, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    for step in (configure, [cmake(), "--build", WORK, "--target", "native"]):
        done = subprocess.run(step, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
            return "the build failed: " + next((line for line in lines if "error" in line.lower()), lines[-1])
    return ""


def native() -> tuple[dict[str, str], list[Path]]:
    """Why each device has no kernels ("" where it has), and the files of those that have."""
    if reason := obstacle():
        return {"cpu": reason, "cuda": reason}, []
    reason = compiled(dict(os.environ))
    without_cuda = compiled({**os.environ, "LBAM_CUDA_ARCHITECTURES": "none"}) if reason else ""
    if without_cuda:
        return {"cpu": without_cuda, "cuda": reason}, []
    status = json.loads((WORK / "bin" / "status.json").read_text())
    if reason:
        status["cuda"] = reason
    return status, [WORK / "bin" / f"lbam_native_{device}.so" for device, missing in status.items() if not missing]


class BuildNative(Command, SubCommand):
    """Puts the compiled kernels, and status.json, into the package: in the build folder, or in place for an editable install."""

    description = "build the compiled kernels with CMake"
    user_options = ()

    def initialize_options(self):
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        status, files = native()
        if MODE == "require" and status["cpu"]:
            sys.exit(f"LBAM_NATIVE=require: {status['cpu']}")
        folder = ROOT / FOLDER if self.editable_mode else Path(self.build_lib) / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy2(file, folder)
        (folder / "status.json").write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")

    def get_source_files(self):
        return []

    def get_outputs(self):
        return [str(path) for path in (Path(self.build_lib) / FOLDER).glob("*")]

    def get_output_mapping(self):
        return {}


class Wheel(bdist_wheel):
    """Of this platform if it holds compiled kernels, but of any Python: they call PyTorch's stable C ABI alone."""

    def get_tag(self):
        self.root_is_pure = not any(Path(self.bdist_dir, FOLDER).glob("*.so"))
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


if __name__ == "__main__":
    build.sub_commands.append(("build_native", None))
    setup(
        packages=[*find_packages(include=["lbam_fast*"]), "lbam_fast.kernels"],
        package_dir={"lbam_fast.kernels": "kernels"},
        setup_requires=tools_to_fetch(),
        cmdclass={"build_native": BuildNative, "bdist_wheel": Wheel},
    )
