from __future__ import annotations

import torch

from lensmount_service.engine.engine import Answer
from lensmount_service.oip.statistics import MAX_MODELS, Spent, Statistics

KEY = ("lab", "cells", 3)


def answered(batch_size: int, forward_s: float = 0.5, queue_s: float = 0.25) -> Answer:
    return Answer(torch.zeros(2), queue_s, 0.0, forward_s, batch_size)


def test_a_model_that_nobody_asked_has_zeros() -> None:
    shown = Statistics().shown(KEY)
    assert (shown["name"], shown["version"], shown["inference_count"], shown["batch_stats"]) == ("cells", "3", 0, [])
    assert shown["inference_stats"]["success"] == {"count": 0, "ns": 0}


def test_requests_add_up_and_a_batch_that_several_share_counts_once() -> None:
    statistics = Statistics(lambda: 12.5)
    statistics.succeeded(KEY, [answered(4), answered(4)], Spent(1.0, 0.125, 0.0625))
    statistics.succeeded(KEY, [answered(4), answered(4)], Spent(1.0, 0.125, 0.0625))
    statistics.succeeded(KEY, [answered(1)], Spent(1.0, 0.125, 0.0625))
    statistics.failed(KEY, 2.0)

    shown = statistics.shown(KEY)

    assert (shown["last_inference"], shown["inference_count"], shown["execution_count"]) == (12500, 5, 2)
    spans = shown["inference_stats"]
    assert spans["success"] == {"count": 3, "ns": 3_000_000_000}
    assert spans["fail"] == {"count": 1, "ns": 2_000_000_000}
    assert spans["queue"] == {"count": 3, "ns": 750_000_000}
    assert spans["compute_input"] == {"count": 3, "ns": 375_000_000}
    assert spans["compute_infer"] == {"count": 3, "ns": 1_500_000_000}
    batches = {each["batch_size"]: each["compute_infer"] for each in shown["batch_stats"]}
    assert batches == {1: {"count": 1, "ns": 500_000_000}, 4: {"count": 1, "ns": 500_000_000}}


def test_versions_and_tenants_are_apart_and_their_number_is_bounded() -> None:
    statistics = Statistics()
    statistics.failed(KEY, 1.0)
    assert statistics.shown(("lab", "cells", 4))["inference_stats"]["fail"]["count"] == 0
    assert statistics.shown(("other", "cells", 3))["inference_stats"]["fail"]["count"] == 0
    for number in range(MAX_MODELS):
        statistics.failed(("lab", f"model{number}", 1), 1.0)
    assert statistics.shown(KEY)["inference_stats"]["fail"]["count"] == 0  # forgotten
    assert statistics.shown(("lab", "model0", 1))["inference_stats"]["fail"]["count"] == 1
