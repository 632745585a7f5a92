"""Imports timm without TorchDynamo, which timm and torchvision load for functions that only `torch.compile` needs.

Importing TorchDynamo and sympy takes as long as importing torch, and no server, worker or training compiles with it.
docs/decisions.md has the figures.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from types import ModuleType
from typing import Any

_DYNAMO, _UTILS = "torch._dynamo", "torch._dynamo.utils"


def import_timm() -> None:
    """Import timm, and leave TorchDynamo for its first use. Afterwards torch is as it was.

    Only the commands of Lensmount call this. A program that imports the library gets timm as it is.
    """
    if "timm" in sys.modules or _DYNAMO in sys.modules:
        return
    import torch

    with _dynamo_later(torch.compiler):
        importlib.import_module("timm")


@contextmanager
def _dynamo_later(compiler: ModuleType) -> Iterator[None]:
    real, stand_in = compiler.disable, _Utils(_UTILS)
    compiler.disable = partial(_disable, real)  # type: ignore[attr-defined]  # while timm is imported
    sys.modules[_UTILS] = stand_in
    try:
        yield
    finally:
        compiler.disable = real  # type: ignore[attr-defined]
        stand_in.leave()


class _Utils(ModuleType):
    """Is found instead of torch._dynamo.utils until something asks for more than torchvision does."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        return bool(importlib.import_module(_UTILS).is_compile_supported(device_type))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # inspect looks through all modules for such names
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(_UTILS), name)

    def leave(self) -> None:
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]


def _disable(
    real: Callable[..., Any], function: Any = None, recursive: bool = True, *, reason: str | None = None
) -> Any:
    """`torch.compiler.disable` with the real one at the first call after TorchDynamo was imported.

    Before that, nothing can be compiled.
    """
    if function is None:
        return partial(_disable, real, recursive=recursive, reason=reason)
    if not inspect.isfunction(function):
        return real(function, recursive, reason=reason)
    disabled = cache(partial(real, function, recursive, reason=reason))

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (disabled() if _DYNAMO in sys.modules else function)(*args, **kwargs)

    return call
