"""The suite's memory: unused memory is collected after a module once its process holds much.

Compiled programs and networks are in cycles of few Python objects, which never trigger the collector on their own.
conftest.py registers this file as a plugin.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_BYTES = 1800 * 2**20  # two processes, each with room for the largest module, stay within 5 GB


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage() -> Iterator[None]:
    yield
    if _resident_bytes() > MOST_BYTES:
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0
