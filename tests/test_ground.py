"""What everything stands on: one root of all errors, and files that are replaced whole or not at all."""

import ast
import importlib
import os
import stat
from pathlib import Path

import pytest

import lbam_fast
from lbam_fast.errors import LBAMError
from lbam_fast.files import replace_file, replacing

PACKAGE = Path(lbam_fast.__file__).parent


def error_classes(source: str) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name.endswith("Error")]


def found_errors() -> dict[str, type]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for name in error_classes(path.read_text(encoding="utf-8")):
            module = ".".join(("lbam_fast", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
            found[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    return found


def test_every_error_has_the_one_root():
    errors = found_errors()
    assert len(errors) > 10
    assert not [name for name, error in errors.items() if not issubclass(error, LBAMError)]


def test_a_class_of_errors_is_seen():
    """Planted fault: one that the test above would have to refuse."""
    assert error_classes("class OwnError(ValueError):\n    pass\n") == ["OwnError"]


def test_a_file_is_replaced_with_its_permissions(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_one(tmp_path):
    path, link = tmp_path / "a.bin", tmp_path / "link.bin"
    path.write_bytes(b"old")
    link.symlink_to(path)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("before", [None, b"old"])
def test_nothing_is_left_of_a_failure(tmp_path, before):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [x.read_bytes() for x in tmp_path.iterdir()] == ([] if before is None else [before])
