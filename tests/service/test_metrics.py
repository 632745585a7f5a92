"""The metrics of one app, as Prometheus reads them."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest

from lensmount_service.metrics import IDLE_S, MAX_ADAPTER_LABELS, MIN_DRIFT_IMAGES, Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics("1.2.3", "resnet10t", "sha256:0", clock)


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """The series of one metric: the label `adapter` to the value."""
    found = {}
    for line in lines(metrics):
        if match := re.fullmatch(rf'{name}{{adapter="([^"]+)".*}} (\S+)', line):
            found[match[1]] = float(match[2])
    return found


def ask(metrics: Metrics, adapter: str) -> str:
    """One request for an adapter."""
    label = metrics.label(adapter)
    metrics.requests.labels(label, "200").inc()
    metrics.judged(label, "accept", 0.9, 0.95)
    return label


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


def test_ten_thousand_adapters_that_are_asked_once_make_a_page_that_is_read_at_once(metrics: Metrics) -> None:
    names = [f"laboratory-{number % 7}/task-of-a-long-name-{number}" for number in range(10_000)]
    for name in names:
        for status in ("200", "404", "429", "503"):
            metrics.requests.labels(metrics.label(name), status).inc()
        for decision in ("accept", "uncertain", "unfamiliar"):
            metrics.judged(metrics.label(name), decision, 0.9, 0.95)
        metrics.inflight.labels(metrics.label(name)).inc()
    started = time.thread_time()
    metrics.show_resident(names, {name: "memory" if number % 2 else "hot" for number, name in enumerate(names)})
    page = metrics.render()
    seconds = time.thread_time() - started

    labels = set(re.findall(r'adapter="([^"]+)"', page.decode()))
    assert len(labels) == MAX_ADAPTER_LABELS + 1 == 65
    assert "other" in labels
    assert len(page) <= 300_000
    assert values(metrics, "lensmount_requests_total")["other"] == 10_000 - MAX_ADAPTER_LABELS
    sys.stdout.write(f"{len(page)} bytes in {seconds * 1000:.1f} ms of one processor\n")


def test_adapters_without_a_label_are_counted_as_resident_together(metrics: Metrics) -> None:
    names = [f"task-{number}" for number in range(1000)]
    metrics.show_resident(names, dict.fromkeys(names[:100], "hot"))
    assert 'lensmount_adapter_resident{adapter="task-0",pinned="false",tier="hot"} 1.0' in lines(metrics)
    assert 'lensmount_adapter_resident{adapter="other",pinned="false",tier="hot"} 36.0' in lines(metrics)
    assert 'lensmount_adapter_resident{adapter="other",pinned="false",tier="memory"} 0.0' in lines(metrics)


def test_an_adapter_that_is_asked_takes_the_label_of_one_that_is_only_there(metrics: Metrics) -> None:
    metrics.show_resident([f"task-{number}" for number in range(1000)], {})
    assert [metrics.label(f"asked-{number}") for number in range(MAX_ADAPTER_LABELS)] == [
        f"asked-{number}" for number in range(MAX_ADAPTER_LABELS)
    ]
    assert metrics.label("one-more") == "other"


def test_an_adapter_that_nobody_asked_for_an_hour_gives_its_label_and_the_busy_ones_keep_theirs(
    metrics: Metrics, clock: Clock
) -> None:
    names = [f"task-{number}" for number in range(MAX_ADAPTER_LABELS)]
    for name in names:
        ask(metrics, name)
    clock.now = IDLE_S
    for name in names[1:]:
        ask(metrics, name)
    assert ask(metrics, "new") == "new"
    assert ask(metrics, "newer") == "other"
    assert [ask(metrics, name) for name in names] == ["other", *names[1:]]
    assert len(values(metrics, "lensmount_requests_total")) == MAX_ADAPTER_LABELS + 1


def test_no_counter_falls_when_names_lose_their_labels_and_get_them_back(metrics: Metrics, clock: Clock) -> None:
    seen: dict[str, float] = {}
    for turn in range(6):
        clock.now += IDLE_S
        for number in range(MAX_ADAPTER_LABELS + 8):
            ask(metrics, f"task-{(number + turn * MAX_ADAPTER_LABELS) % 150}")
        now = values(metrics, "lensmount_requests_total")
        assert len(now) <= MAX_ADAPTER_LABELS + 1
        assert all(now[name] >= seen.get(name, 0) for name in now)
        seen |= now
    assert max(seen[name] for name in seen if name != "other") >= 2  # some came back


def test_a_refusal_is_counted_by_its_code_and_its_status(metrics: Metrics) -> None:
    metrics.refused("queue_full", 429)
    metrics.refused("queue_full", 429)
    assert 'lensmount_refusals_total{code="queue_full",status="429"} 2.0' in lines(metrics)


def test_the_drift_is_the_mean_top_score_minus_what_the_adapter_promises(metrics: Metrics) -> None:
    label = metrics.label("cells")
    for number in range(MIN_DRIFT_IMAGES - 1):
        metrics.judged(label, "accept", 0.7 if number % 2 else 0.9, 0.95)
    assert values(metrics, "lensmount_calibration_drift") == {}  # so few images say nothing
    metrics.judged(label, "uncertain", 0.7, 0.95)
    assert values(metrics, "lensmount_calibration_drift") == {"cells": pytest.approx(0.8 - 0.95)}
    assert values(metrics, "lensmount_decisions_total") == {"cells": 1.0}  # the last line is that of `uncertain`


def test_the_drift_forgets_the_images_of_long_ago(metrics: Metrics) -> None:
    for top_score in (0.5, 0.95):
        for _ in range(3000):
            metrics.judged(metrics.label("cells"), "accept", top_score, 0.95)
    assert abs(values(metrics, "lensmount_calibration_drift")["cells"]) < 0.45 * (1 - 1 / 500) ** 3000 + 1e-9


def test_an_adapter_that_promises_no_accuracy_has_no_drift(metrics: Metrics) -> None:
    for _ in range(2 * MIN_DRIFT_IMAGES):
        metrics.judged(metrics.label("cells"), "accept", 0.9, None)
    assert values(metrics, "lensmount_calibration_drift") == {}


def test_each_adapter_is_resident_in_one_tier_and_a_dropped_one_has_no_series(metrics: Metrics) -> None:
    metrics.show_resident(["cells", "tiles"], {"cells": "hot"}, pinned={"cells"})
    shown = lines(metrics)
    assert 'lensmount_adapter_resident{adapter="cells",pinned="true",tier="hot"} 1.0' in shown
    assert 'lensmount_adapter_resident{adapter="cells",pinned="true",tier="memory"} 0.0' in shown
    assert 'lensmount_adapter_resident{adapter="tiles",pinned="false",tier="hot"} 0.0' in shown
    metrics.show_resident(["tiles"], {"tiles": "memory"})
    assert not any('adapter="cells"' in line for line in lines(metrics))


def test_no_adapter_is_looked_at_for_the_page_only_because_it_is_stored(metrics: Metrics) -> None:
    class Stored(dict[str, str]):
        asked = 0

        def __iter__(self) -> Iterator[str]:
            for name in super().__iter__():
                Stored.asked += 1
                yield name

    stored = Stored.fromkeys((f"task-{number}" for number in range(10_000)), "")
    metrics.show_resident(stored, {"task-9999": "hot"}, pinned={"task-9998"})
    assert Stored.asked <= MAX_ADAPTER_LABELS
    assert 'lensmount_adapter_resident{adapter="task-9999",pinned="false",tier="hot"} 1.0' in lines(metrics)
    for pinned in ("true", "false"):
        assert f'lensmount_adapter_resident{{adapter="other",pinned="{pinned}",tier="hot"}} 0.0' in lines(metrics)
