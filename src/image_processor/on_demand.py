"""Names that a package gives away and does not load before they are asked for."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_of(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """
    A package's `__getattr__` for the names that live in its modules: name to module, such as `base`.

    So a process that needs one of them does not pay for what the others import.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        return vars(sys.modules[package]).setdefault(name, found)

    return find
