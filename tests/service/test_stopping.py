from __future__ import annotations

from lensmount_service.stopping import Stopping


def test_all_of_the_time_is_left_before_the_signal_and_less_of_it_after() -> None:
    stopping = Stopping()
    assert stopping.left_s(30.0) == 30.0

    stopping.set()
    left_s = stopping.left_s(30.0)
    stopping.set()  # a second signal does not give more time
    assert stopping.left_s(30.0) <= left_s < 30.0
    assert stopping.left_s(0.0) == 0.0
