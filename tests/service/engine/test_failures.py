"""A batch without memory is halved until it fits; a lost device ends the engine, a failing adapter is quarantined."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import BatchScores, Item
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import Unavailable, Unusable
from lensmount_service.metrics import Metrics

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter

Fault = Callable[[Sequence[Item]], None]


class Failing(MergedRunner):
    """Calls `fault` with each batch before it computes it, and notes the sizes of the batches."""

    mixes = True

    def __init__(self, backbone: Backbone, fault: Fault) -> None:
        super().__init__(backbone, ExactSwapper(backbone))
        self._fault = fault
        self.sizes: list[int] = []

    def scores(self, items: Sequence[Item]) -> BatchScores:
        self.sizes.append(len(items))
        self._fault(items)
        return super().scores(items)


@pytest.fixture
def cells(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(1, ("a", "b")), backbone)


@pytest.fixture
def tiles(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(2, ("x", "y", "z")), backbone)


def engine_of(backbone: Backbone, fault: Fault, limit: int = 3) -> tuple[Engine, Failing, Metrics]:
    metrics, runner = Metrics("0", "resnet10t", "sha256:0"), Failing(backbone, fault)
    engine = Engine(backbone, runner, metrics, max_batch=8)
    engine.quarantine.limit = limit
    return engine, runner, metrics


IMAGE = torch.zeros(3, 64, 64)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_without_memory_is_halved_and_answered(backbone: Backbone, cells: Adapter, error: Exception) -> None:
    def fault(items: Sequence[Item]) -> None:
        if len(items) > 4:
            raise error

    engine, runner, metrics = engine_of(backbone, fault)
    with engine:
        answers = [future.result(20) for future in engine.submit_many([(cells, IMAGE)] * 7)]

    assert runner.sizes == [7, 4, 3]
    assert [answer.batch_size for answer in answers] == [4] * 4 + [3] * 3
    assert b"lensmount_out_of_memory_total 1.0" in metrics.render()
    assert not engine.quarantine.holds(cells.digest)


def test_a_batch_of_many_adapters_without_memory_is_run_one_adapter_at_a_time(
    backbone: Backbone, cells: Adapter, tiles: Adapter
) -> None:
    def fault(items: Sequence[Item]) -> None:
        if len(items) > 2:
            raise MemoryError

    engine, runner, _ = engine_of(backbone, fault)
    with engine:
        futures = engine.submit_many([(cells, IMAGE), (tiles, IMAGE), (cells, IMAGE), (tiles, IMAGE)])
        assert [len(future.result(20).scores) for future in futures] == [2, 3, 2, 3]

    assert runner.sizes == [4, 2, 2]


def test_halves_without_memory_are_refused_and_hold_nothing(backbone: Backbone, cells: Adapter) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    while_halving: list[bool] = []

    def fault(items: Sequence[Item]) -> None:
        while_halving.append(any(ref() is not None for ref in held))
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    engine, runner, _ = engine_of(backbone, fault, limit=1)
    with engine:
        for future in engine.submit_many([(cells, IMAGE)] * 8):
            with pytest.raises(Unavailable, match=r"too little memory for [124] images? of") as caught:
                future.result(20)
            assert (caught.value.code, caught.value.retry_after_s) == ("out_of_memory", 1)

    assert runner.sizes == [8, 4, 2, 1]  # after one image alone, none of the others is tried
    assert not any(while_halving)  # the tensors of the failed pass are gone before the halves are computed
    assert all(ref() is None for ref in held)
    assert not engine.quarantine.holds(cells.digest)  # memory is not the adapter's fault


def test_the_size_that_fits_is_remembered_and_a_larger_one_is_tried_later(
    backbone: Backbone, cells: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.engine.memory.TRIED_AGAIN_AFTER", 4)
    most = [2]

    def fault(items: Sequence[Item]) -> None:
        if len(items) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine, runner, _ = engine_of(backbone, fault)
    with engine:
        for sizes in ([8, 4, 2, 2, 4, 2, 2], [2, 2, 2, 2], [4, 4]):
            runner.sizes.clear()
            for future in engine.submit_many([(cells, IMAGE)] * 8):
                future.result(20)
            assert runner.sizes == sizes
            most[0] = 4


def test_an_image_that_finds_no_memory_alone_gets_that_of_hot_programs(backbone: Backbone, cells: Adapter) -> None:
    held = [64]

    def fault(_: Sequence[Item]) -> None:
        if held[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def shed() -> int:
        freed, held[0] = held[0], 0
        return freed

    engine, runner, _ = engine_of(backbone, fault)
    runner.shed = shed  # type: ignore[attr-defined]  # of a runner with hot programs
    with engine:
        answers = [future.result(20) for future in engine.submit_many([(cells, IMAGE)] * 2)]

    assert runner.sizes == [2, 1, 1, 1]
    assert len(answers) == 2


def test_a_device_that_does_not_answer_after_an_error_is_lost(
    backbone: Backbone, cells: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.engine.engine.answers", lambda device: False)

    def fault(_: Sequence[Item]) -> None:
        raise RuntimeError("CUDA error: unknown error")

    engine, _, _ = engine_of(backbone, fault)
    with engine:
        with pytest.raises(Unavailable) as caught:
            engine.submit(cells, IMAGE).result(20)
        assert caught.value.code == "device_lost"
        assert not engine.accepting


def test_a_lost_device_ends_the_engine_and_calls_who_waits_for_it(backbone: Backbone, cells: Adapter) -> None:
    def fault(_: Sequence[Item]) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    engine, _, _ = engine_of(backbone, fault)
    lost: list[bool] = []
    engine.when_lost(lambda: lost.append(True))
    with engine:
        with pytest.raises(Unavailable, match="Fix: start the server again") as caught:
            engine.submit(cells, IMAGE).result(20)
        assert caught.value.code == "device_lost"
        with pytest.raises(Unavailable, match="cannot use it again"):
            engine.submit_many([(cells, IMAGE)])

    assert lost == [True]
    assert engine.lost
    assert not engine.accepting


def test_an_adapter_whose_scores_are_never_finite_is_quarantined_by_its_own_failures_alone(
    backbone: Backbone, cells: Adapter, tiles: Adapter
) -> None:
    broken = replace(cells, digest="sha256:broken", head=torch.nn.Linear(backbone.feature_dim, 2))
    torch.nn.init.constant_(broken.head.bias, torch.inf)  # type: ignore[arg-type]  # it is a Linear
    engine, _, metrics = engine_of(backbone, lambda _: None)
    with engine:
        for _ in range(3):
            futures = engine.submit_many([(tiles, IMAGE), (broken, IMAGE)])
            assert futures[0].result(20).scores.shape == (3,)
            with pytest.raises(Unusable, match="sha256:broken") as caught:
                futures[1].result(20)
            assert (caught.value.code, caught.value.retry_after_s) == ("output_not_finite", None)

    assert (engine.quarantine.holds("sha256:broken"), len(engine.quarantine)) == (True, 1)
    assert b"lensmount_quarantined_adapters 1.0" in metrics.render()


def test_a_forward_pass_that_always_fails_quarantines_and_a_trial_does_not(backbone: Backbone, cells: Adapter) -> None:
    def fault(_: Sequence[Item]) -> None:
        raise ValueError("shapes")

    engine, _, _ = engine_of(backbone, fault, limit=2)
    with engine:
        for _ in range(4):
            (trial,) = engine.submit_many([(cells, IMAGE)], trial=True)
            with pytest.raises(Unavailable, match="ValueError"):
                trial.result(20)
        assert not engine.quarantine.holds(cells.digest)
        for _ in range(2):
            with pytest.raises(Unavailable, match="ValueError"):
                engine.submit(cells, IMAGE).result(20)

    assert engine.quarantine.holds(cells.digest)


def test_the_images_of_one_tenant_fail_neither_those_of_another_nor_its_adapter(
    backbone: Backbone, cells: Adapter
) -> None:
    hold = threading.Event()

    def fault(items: Sequence[Item]) -> None:
        hold.wait(20)
        if any(item.image is not IMAGE for item in items):
            raise ValueError("an image that makes it fail")

    bad = torch.ones(3, 64, 64)
    engine, runner, _ = engine_of(backbone, fault, limit=1)
    with engine:
        first = engine.submit(cells, IMAGE)
        sent = [engine.submit_many([(cells, bad)], caller="reader1", tenant="lab1")]
        sent += [engine.submit_many([(cells, IMAGE)], caller="reader2", tenant="lab2")]
        hold.set()
        assert first.result(20).scores.shape == (2,)
        with pytest.raises(Unavailable, match="ValueError"):
            sent[0][0].result(20)
        assert sent[1][0].result(20).scores.shape == (2,)

    assert [engine.quarantine.holds(cells.digest, tenant) for tenant in ("lab1", "lab2", "")] == [True, False, False]
    assert max(runner.sizes) > 1  # they shared a batch
