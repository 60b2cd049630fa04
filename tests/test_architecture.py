"""The arrows of import in docs/architecture.md, read off the code; and what importing the package must not pull in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lbam_fast

PACKAGE = Path(lbam_fast.__file__).parent
GROUND = {"errors", "files", "lazy"}
# Where what may come has its place, importing what its part may unless said otherwise:
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "lazy": set(),
    "signals": set(),
    "waiting": set(),
    "config": set(),
    "reference": {"config"},
    "kernels": set(),
    "native": set(),
    "ops": {"kernels", "native", "reference"},
    "model": {"config", "ops", "reference"},
    "checkpoints": {"config", "model"},
    "export": {"checkpoints", "config", "model", "reference"},
    "pictures": {"config"},
    "data": {"config", "pictures"},
    "devices": {"config"},
    "evaluation": {"checkpoints", "config", "data", "pictures"},
    "inference": {"checkpoints", "config", "devices", "model", "native", "ops", "pictures", "reference"},
    "inspection": {"config", "model", "reference"},
    "training": {"checkpoints", "config", "data", "devices", "inspection", "model", "ops"},
    "batch": {"config", "inference", "model", "pictures"},
    "service": {"batch", "config", "inference", "pictures"},
    "cli": {
        "batch",
        "checkpoints",
        "config",
        "data",
        "devices",
        "evaluation",
        "export",
        "inference",
        "inspection",
        "model",
        "native",
        "ops",
        "pictures",
        "reference",
        "service",
        "signals",
        "training",
    },
}


ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"


def reach(part: str) -> set[str]:
    """What ``part`` may import, and what that may."""
    return MAY_IMPORT[part].union(*map(reach, MAY_IMPORT[part]))


def diagram() -> str:
    """The import table in Mermaid, without arrows that others imply."""
    lines = ["```mermaid", "flowchart TD"]
    for part, others in MAY_IMPORT.items():
        implied = set().union(*map(reach, others))
        lines += [f"    {part} --> {other}" for other in sorted(others - implied)]
    return "\n".join([*lines, "```\n"])


def files_of(part: str) -> list[Path]:
    if part == "kernels":  # beside the package in the repository
        return sorted((PACKAGE.parent / "kernels").glob("*.py"))
    return [path for path in PACKAGE.rglob("*.py") if part_of(path) == part]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(source: str) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "lbam_fast" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("lbam_fast.")}
    return parts & MAY_IMPORT.keys()


def upward_imports(part: str, source: str) -> set[str]:
    return imported_parts(source) - MAY_IMPORT[part] - {part} - (set() if part in GROUND else GROUND)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_run_one_way(part):
    files = files_of(part)
    assert files
    found = {path.name: upward for path in files if (upward := upward_imports(part, path.read_text(encoding="utf-8")))}
    assert not found


def test_every_part_has_its_place():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert parts | {"kernels"} == MAY_IMPORT.keys() | {"__init__", "__main__"}


@pytest.mark.parametrize(
    "line",
    [
        "from lbam_fast.cli import app",
        "from lbam_fast import inference",
        "import lbam_fast.training",
        "    from lbam_fast.data.masks import x",
    ],
)
def test_an_upward_import_is_caught(line):
    """Planted fault: the reference reaching up, also inside a function."""
    source = f"def f():\n{line}\n" if line.startswith(" ") else line
    assert upward_imports("reference", source)


def test_importing_the_package_loads_neither_triton_nor_torch():
    """The drop-in must import anywhere; names load what they need on first use."""
    code = "import sys, lbam_fast; print([m for m in ('torch', 'triton', 'cv2', 'PIL') if m in sys.modules])"
    assert _printed(code) == "[]"


def test_a_model_on_a_cpu_loads_no_triton():
    """The same question, once something has loaded it, is answered with yes."""
    asked = "print('triton' in sys.modules)"
    code = f"import sys, lbam_fast; lbam_fast.LBAM(lbam_fast.LBAMConfig(base_width=2)); {asked}; import triton; {asked}"
    assert _printed(code) == "False\nTrue"


def test_the_diagram_shows_the_table():
    assert diagram() in PAGE.read_text(encoding="utf-8")


FOLDERS = (
    "",
    "lbam_fast",
    "lbam_fast/ops",
    "lbam_fast/ops/backends",
    "lbam_fast/ops/runtime",
    "lbam_fast/model",
    "lbam_fast/inference",
    "lbam_fast/batch",
    "lbam_fast/service",
    "csrc/cpu",
    "csrc/cuda",
    "kernels",
    "tests",
    "benchmarks",
    "docs",
)
"""Where files are that the page names without their folder."""


def missing_files(page: str) -> list[str]:
    """Files of code that the page names and that are nowhere."""
    names = re.findall(r"`([\w/]+\.(?:py|cpp|cu|h|sh))`", page)
    return [name for name in names if not any((ROOT / folder / name).is_file() for folder in FOLDERS)]


def test_every_file_that_the_page_names_exists():
    assert not missing_files(PAGE.read_text(encoding="utf-8"))


def test_a_file_that_is_nowhere_is_caught():
    """Planted fault."""
    assert missing_files("see `ops/regions.py` and `ops/nowhere.py`") == ["ops/nowhere.py"]


def _printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    PAGE.write_text(re.sub(r"```mermaid.*?```\n", diagram(), PAGE.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8")
