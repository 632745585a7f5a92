from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from lensmount_adapters import Adapter
from lensmount_service.engine.quiet import ARRIVALS, UNLIMITED, QuietLanes
from lensmount_service.engine.scheduler import QueuedImage, Scheduler


@pytest.fixture
def quiet() -> QuietLanes:
    """Lane a has had one image at a time; lane b is flooded."""
    lanes = QuietLanes()
    for arrival in range(ARRIVALS):
        lanes.saw("b", 20, 10.0 + arrival / 10)
        lanes.saw("a", 1, 10.0 + arrival / 10)
    return lanes


def test_beside_a_quiet_lane_a_flooded_one_has_batches_of_10_ms(quiet: QuietLanes) -> None:
    assert quiet.most_images(20, 0.002, 10.3) == 5
    assert quiet.most_images(20, 0.2, 10.3) == 1


def test_a_lane_that_holds_8_images_is_not_flooded(quiet: QuietLanes) -> None:
    assert quiet.most_images(8, 0.002, 10.3) == UNLIMITED


def test_a_quiet_lane_is_forgotten_a_second_after_its_last_image(quiet: QuietLanes) -> None:
    assert quiet.most_images(20, 0.002, 11.3) == UNLIMITED


def test_a_lane_of_which_three_images_wait_is_not_quiet(quiet: QuietLanes) -> None:
    quiet.saw("a", 3, 10.3)

    assert quiet.most_images(20, 0.002, 10.3) == UNLIMITED


def test_a_lane_is_not_quiet_before_its_third_arrival() -> None:
    lanes = QuietLanes()
    for _ in range(2):
        lanes.saw("a", 1, 10.0)

    assert lanes.most_images(20, 0.002, 10.0) == UNLIMITED


@pytest.mark.parametrize(("canary", "batch"), [("cells", 16), ("tiles", 1)])
def test_a_canary_of_10_percent_is_not_quiet_beside_the_stable_version_of_its_name(canary: str, batch: int) -> None:
    """Batches of one image while a rollout runs made the p99 of its clients 2.4 times as long."""
    scheduler: Scheduler[str] = Scheduler(16, mix=True, clock=lambda: 10.0)

    def submit(digest: str, name: str) -> None:
        adapter = cast(Adapter, SimpleNamespace(digest=digest))
        scheduler.submit([QueuedImage(adapter, torch.zeros(3, 4, 4), name=name)])

    for _ in range(80):
        submit("stable", "cells")
    for _ in range(ARRIVALS):
        submit("canary", canary)
        taken = scheduler.next_batch(block=False)
        assert taken

    assert len(scheduler.next_batch(block=False) or ()) == batch
