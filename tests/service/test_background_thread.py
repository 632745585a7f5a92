"""A background thread runs from entering its context to leaving it."""

from __future__ import annotations

import threading

import pytest

from lensmount_service.background_thread import BackgroundThread


class Waiting(BackgroundThread):
    """Waits until it is asked to end."""

    def __init__(self) -> None:
        super().__init__("test-waiting")
        self.done = False

    def _run(self) -> None:
        self._ended.wait(30)
        self.done = self._ended.is_set()


def test_entering_starts_the_thread_and_leaving_asks_it_to_end_and_waits_for_it() -> None:
    waiting = Waiting()
    assert not waiting.is_running
    with waiting as entered:
        assert entered is waiting
        assert waiting.is_running
        assert not waiting.done
    assert waiting.done
    assert not waiting.is_running


def test_an_error_inside_the_context_ends_the_thread_and_is_raised() -> None:
    waiting = Waiting()
    with pytest.raises(ZeroDivisionError), waiting:
        raise ZeroDivisionError
    assert waiting.done


def test_the_thread_has_its_name_and_does_not_keep_the_process_alive() -> None:
    with Waiting():
        (found,) = [thread for thread in threading.enumerate() if thread.name == "test-waiting"]
        assert found.daemon
