"""The kernels in Triton's interpreter, which runs them on a CPU, block by block."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import lensmount_adapters


@pytest.fixture(scope="module")
def interpreted() -> Callable[[str], ModuleType]:
    """`interpreted("grouped_merge")`: a copy of this module of the kernels, made for the interpreter."""
    pytest.importorskip("triton")

    def load(name: str) -> ModuleType:
        path = Path(lensmount_adapters.__file__).parent / "kernels" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"interpreted_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
            spec.loader.exec_module(module)
        return module

    return load
