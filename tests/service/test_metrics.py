"""The metrics of one app, as Prometheus reads them."""

from __future__ import annotations

import pytest

from lensmount_service.metrics import MAX_ADAPTER_LABELS, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3", "resnet10t", "sha256:0")


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_the_build_is_a_series(metrics: Metrics) -> None:
    assert 'lensmount_build_info{backbone="resnet10t",fingerprint="sha256:0",version="1.2.3"} 1.0' in lines(metrics)


def test_two_apps_in_one_process_count_on_their_own(metrics: Metrics) -> None:
    other = Metrics("1.2.3", "resnet10t", "sha256:0")
    metrics.restore_mismatch.inc()
    assert "lensmount_restore_mismatch_total 1.0" in lines(metrics)
    assert "lensmount_restore_mismatch_total 0.0" in lines(other)


def test_names_beyond_the_bound_are_counted_together_and_known_names_stay(metrics: Metrics) -> None:
    names = [f"task-{number}" for number in range(MAX_ADAPTER_LABELS)]
    assert [metrics.label(name) for name in names] == names
    assert metrics.label("one-more") == "other"
    assert metrics.label(names[0]) == names[0]


def test_each_adapter_is_resident_in_one_tier_and_a_dropped_one_has_no_series(metrics: Metrics) -> None:
    metrics.show_resident({"cells": "hot", "tiles": "file"}, pinned={"cells"})
    shown = lines(metrics)
    assert 'lensmount_adapter_resident{adapter="cells",pinned="true",tier="hot"} 1.0' in shown
    assert 'lensmount_adapter_resident{adapter="cells",pinned="true",tier="memory"} 0.0' in shown
    assert 'lensmount_adapter_resident{adapter="tiles",pinned="false",tier="hot"} 0.0' in shown
    metrics.show_resident({"tiles": "memory"})
    assert not any('adapter="cells"' in line for line in lines(metrics))
