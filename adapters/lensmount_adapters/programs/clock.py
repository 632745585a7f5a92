"""How long work takes where it is computed: by the host's clock, or by events on a GPU, which nobody waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class HostClock:
    """`with clock.timed(): ...`, then `clock.seconds()`, for a CPU, whose calls return when they are done."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds = time.perf_counter() - started

    def seconds(self) -> float | None:
        return self._seconds


class EventClock:
    """The same for a GPU, whose calls return when the work is launched.

    `seconds()` are those of the last work whose end the GPU has reached; None before the first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        self._seconds: float | None = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        self.seconds()  # before its events are replaced
        stream = torch.cuda.current_stream(self._device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        before.record(stream)
        yield
        after.record(stream)
        self._events = before, after

    def seconds(self) -> float | None:
        if self._events is not None and self._events[1].query():  # type: ignore[no-untyped-call]  # torch's
            before, after = self._events
            self._seconds, self._events = before.elapsed_time(after) / 1e3, None
        return self._seconds


def clock_of(device: torch.device) -> HostClock | EventClock:
    return EventClock(device) if device.type == "cuda" else HostClock()
