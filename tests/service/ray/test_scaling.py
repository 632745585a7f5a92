"""lensmount_service.ray.scaling: how many replicas there should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from lensmount_service.ray.scaling import Policy


@dataclass(frozen=True)
class Reported:
    current_num_replicas: int
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


def wanted(replicas: int, **figures: list[float]) -> float:
    reported = {name: dict(enumerate(values)) for name, values in figures.items()}
    number, state = Policy(waiting_each=16, pixels_each=40e6)(Reported(replicas, reported))
    assert state == {}
    return number


def test_images_that_wait_ask_for_one_replica_for_each_batch_of_them() -> None:
    assert wanted(2, waiting_images=[40.0, 24.0], pixels_per_s=[0.0, 0.0]) == 4.0


def test_pixels_ask_for_replicas_before_a_queue_has_formed() -> None:
    assert wanted(2, waiting_images=[0.0, 0.0], pixels_per_s=[60e6, 60e6]) == 3.0


def test_the_larger_need_counts() -> None:
    assert wanted(2, waiting_images=[16.0, 16.0], pixels_per_s=[120e6, 120e6]) == 6.0
    assert wanted(2, waiting_images=[160.0, 160.0], pixels_per_s=[4e6, 4e6]) == 20.0


def test_replicas_without_a_report_count_as_the_mean_of_the_others() -> None:
    assert wanted(4, waiting_images=[32.0, 32.0]) == 8.0


@pytest.mark.parametrize("reported", [None, {}, {"waiting_images": {}}])
def test_without_any_report_the_number_stays(reported: Any) -> None:
    assert Policy()(Reported(3, reported)) == (3.0, {})


def test_an_idle_deployment_needs_no_replica_and_ray_keeps_its_least_number() -> None:
    assert wanted(5, waiting_images=[0.0] * 5, pixels_per_s=[0.0] * 5) == 0.0
