"""Import a package's public names on first use (PEP 562), so that `--help` does not wait for torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def lazy_names(
    package: str, names_of: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    `__getattr__, __dir__ = lazy_names(__name__, {"module": ["name", ...]})`; modules are relative to the package.

    This is written here because the base install must be able to show the help of every command. A library for it
    would be one more dependency for everybody who uses only the client.
    """
    module_of = {name: f"{package}.{module}" for module, names in names_of.items() for name in names}

    def getter(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module_of[name]), name)

    return getter, lambda: sorted(module_of)
