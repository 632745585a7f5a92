"""A daemon thread as a context manager: entering starts it, leaving asks it to end and waits for it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from types import TracebackType
from typing import Self

LOWEST = 19  # niceness: the time that nobody else asks for


class BackgroundThread:
    """A subclass implements `_run`, which returns soon after `self._ended` is set."""

    def __init__(self, name: str) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError


def lower_priority(niceness: int = LOWEST) -> None:
    """Let other threads of the machine go before this thread and those that it starts."""
    if sys.platform == "linux":  # where a priority belongs to a thread and not to its process
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
