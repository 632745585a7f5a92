"""The one place in which a network is traced or converted: one at a time, without torch's warnings."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_converting = threading.Lock()  # `catch_warnings` changes the filters of the whole process


@contextmanager
def converting() -> Iterator[None]:
    """`with converting(): torch.jit.trace(...)`: other threads wait, warnings are ignored, gradients are off."""
    with _converting, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit.trace is deprecated, and sizes become constants on purpose
        yield
