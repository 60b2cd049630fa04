"""Names of a package that are looked up in its modules on first use, so that importing it loads nothing heavy."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def looked_up(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """The ``__getattr__`` of a package. modules: the names that it has from each of its modules.

    A package hides it from type checkers, which would take every misspelt name for one that it provides.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
