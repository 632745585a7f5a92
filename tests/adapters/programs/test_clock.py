"""A GPU's time is read from events once it has reached them, and nobody waits for it."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.programs.clock import EventClock, HostClock, clock_of


class Event:
    """Recorded events have the times 0, 1, 2, ... ms; `reached` says which the GPU has reached."""

    recorded = 0
    reached = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.at, Event.recorded = Event.recorded, Event.recorded + 1

    def query(self) -> bool:
        return self.at < Event.reached

    def elapsed_time(self, end: Event) -> float:
        return float(end.at - self.at)


def test_a_measurement_is_known_once_the_gpu_has_reached_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    clock = EventClock(torch.device("cuda"))
    with clock.timed():
        pass
    assert clock.seconds() is None
    Event.reached = 2
    assert clock.seconds() == 1e-3
    with clock.timed():
        Event.recorded += 4
    assert clock.seconds() == 1e-3  # of the work before
    Event.reached = 8
    assert clock.seconds() == 5e-3


def test_a_cpu_has_the_clock_of_the_host() -> None:
    clock = clock_of(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    with clock.timed():
        pass
    seconds = clock.seconds()
    assert seconds is not None
    assert 0 <= seconds < 60
    assert isinstance(clock_of(torch.device("cuda")), EventClock)
