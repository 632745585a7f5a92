"""The suite's memory: unused memory is collected after a test once its process holds and took much.

Compiled programs and networks are in cycles of few Python objects, which never trigger the collector on their own.
What was imported and collected before the first test stays, so no later collection looks at it: two million objects.
conftest.py registers this file as a plugin.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

MOST_BYTES = 1500 * 2**20  # two processes, each with room for the largest module, stay within 5 GB
GROWTH_BYTES = 200 * 2**20  # what a process has to take since the last collection: one takes up to 0.5 s
_after_collection = 0  # bytes; pytest runs its tests in one thread


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # otherwise Python's last collection skips them, and nanobind reports leaks


@pytest.fixture(autouse=True)
def _collect_garbage() -> Iterator[None]:
    global _after_collection
    yield
    if _resident_bytes() > max(MOST_BYTES, _after_collection + GROWTH_BYTES):
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed
        _after_collection = _resident_bytes()


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0
