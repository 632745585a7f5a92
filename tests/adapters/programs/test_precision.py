"""The choice of the precision of training."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.programs.precision import choose_precision


def test_bfloat16_is_chosen_only_if_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    cost = {torch.float32: 13, torch.bfloat16: 10}
    now = [0.0]
    monkeypatch.setattr("lensmount_adapters.programs.precision.time.perf_counter", lambda: now[0])

    def step(dtype: torch.dtype) -> None:
        next(clock)
        now[0] += cost[dtype]

    assert choose_precision("auto", step) is torch.bfloat16
    cost[torch.float32] = 11
    assert choose_precision("auto", step) is torch.float32
    used = next(clock)
    assert choose_precision("bf16", step) is torch.bfloat16
    assert next(clock) == used + 1  # the precision was asked for, so nothing is measured
