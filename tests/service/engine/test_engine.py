from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, Delta, ExactSwapper, Preprocessing, admit, decode_image, preprocess
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_service.engine.engine import Engine
from lensmount_service.errors import DeadlineExceeded, QueueFull, Unavailable
from lensmount_service.metrics import Metrics

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0", "resnet10t", "sha256:0")


@pytest.fixture
def cells(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(1, ("a", "b")), backbone)


@pytest.fixture
def tiles(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(2, ("x", "y", "z")), backbone)


@pytest.fixture
def image(make_png: MakePng, cells: Adapter) -> torch.Tensor:
    return preprocess(decode_image(make_png()), cast(Preprocessing, cells.manifest.preprocessing))


class Gate(ExactSwapper):
    """Lets the engine mount only after the test opens it, and records the order of mounts."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.open = threading.Event()
        self.mounts: list[str] = []

    def mount(self, adapter: Adapter) -> bool:
        self.open.wait(10)
        self.mounts.append(adapter.digest)
        return super().mount(adapter)


def test_images_of_one_adapter_share_a_batch_and_the_oldest_head_goes_first(
    backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    gate = Gate(backbone)
    with Engine(backbone, MergedRunner(backbone, gate), metrics, max_batch=3) as engine:
        first = engine.submit(tiles, image)
        while (
            not engine.accepting or engine.waiting
        ):  # until the engine has taken the first batch and waits at the gate
            pass
        order = [engine.submit(adapter, image) for adapter in (cells, tiles, cells, cells, cells)]
        gate.open.set()
        sizes = [future.result(10).batch_size for future in (first, *order)]

    assert sizes == [1, 3, 1, 3, 3, 1]
    assert gate.mounts == [tiles.digest, cells.digest, tiles.digest, cells.digest]


def test_it_switches_only_when_the_adapter_changes(
    backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    with Engine(backbone, MergedRunner(backbone, ExactSwapper(backbone)), metrics) as engine:
        answers = [engine.submit(cells, image).result(10) for _ in range(3)]

    assert [answer.swap_s > 0 for answer in answers] == [True, False, False]
    assert torch.equal(answers[0].scores, answers[2].scores)


def test_a_full_queue_refuses_and_says_when_to_try_again(
    backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    gate = Gate(backbone)
    with Engine(backbone, MergedRunner(backbone, gate), metrics, max_batch=1, max_queue=2) as engine:
        futures = [engine.submit(cells, image)]
        while engine.waiting:
            pass
        futures += engine.submit_many([(cells, image)] * 2)
        with pytest.raises(QueueFull) as caught:
            engine.submit(cells, image)
        with pytest.raises(QueueFull):
            engine.check_room([cells])
        gate.open.set()
        assert [future.result(10).batch_size for future in futures] == [1, 1, 1]

    assert (caught.value.retry_after_s or 0) >= 1


def test_a_cancelled_image_is_dropped_before_it_is_computed(
    backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    gate = Gate(backbone)
    with Engine(backbone, MergedRunner(backbone, gate), metrics) as engine:
        first = engine.submit(cells, image)
        while engine.waiting:
            pass
        gone = engine.submit(tiles, image)
        assert gone.cancel()
        gate.open.set()
        first.result(10)
        assert engine.submit(cells, image).result(10).batch_size == 1

    assert tiles.digest not in gate.mounts


def test_an_image_past_its_deadline_is_never_computed(
    backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    gate = Gate(backbone)
    with Engine(backbone, MergedRunner(backbone, gate), metrics) as engine:
        first = engine.submit(cells, image)
        while engine.waiting:
            pass
        late = engine.submit(tiles, image, deadline=time.perf_counter())
        with pytest.raises(DeadlineExceeded):
            late.result(0)
        gate.open.set()
        first.result(10)

    assert gate.mounts == [cells.digest]


class Mixing(MergedRunner):
    """Accepts batches of several adapters."""

    mixes = True


def test_an_adapter_that_fails_does_not_fail_the_others_of_its_batch(
    fresh_backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    broken = replace(
        tiles, digest="sha256:broken", deltas=(*tiles.deltas[:-1], cast(Delta, BreakingDelta(tiles.deltas[-1])))
    )
    gate = Gate(fresh_backbone)
    with Engine(fresh_backbone, Mixing(fresh_backbone, gate), metrics) as engine:
        first = engine.submit(cells, image)
        while engine.waiting:
            pass
        futures = engine.submit_many([(cells, image), (broken, image), (tiles, image), (cells, image)])
        gate.open.set()
        with pytest.raises(Unavailable, match="Fix: try again"):
            futures[1].result(10)
        scores = [future.result(10).scores for future in (first, futures[0], futures[3], futures[2])]
        alone = [engine.submit(adapter, image).result(10).scores for adapter in (cells, tiles)]

    for got, expected in zip(scores, [alone[0]] * 3 + [alone[1]], strict=True):
        torch.testing.assert_close(got, expected)


class BreakingDelta:
    """A delta whose merge fails."""

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self.target = delta.target

    def write(self, base: torch.Tensor, live: torch.Tensor) -> None:
        live.fill_(7)
        raise MemoryError


def test_a_merge_that_fails_fails_only_its_batch_and_restores_the_base(
    fresh_backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    broken = replace(
        tiles, digest="sha256:broken", deltas=(*tiles.deltas[:-1], cast(Delta, BreakingDelta(tiles.deltas[-1])))
    )
    with Engine(fresh_backbone, MergedRunner(fresh_backbone, ExactSwapper(fresh_backbone)), metrics) as engine:
        before = engine.submit(cells, image).result(10)
        with pytest.raises(Unavailable) as caught:
            engine.submit(broken, image).result(10)
        assert caught.value.code == "swap_failed"
        assert engine.integrity().result(10).ok
        assert torch.equal(engine.submit(cells, image).result(10).scores, before.scores)


def test_a_forward_that_fails_does_not_end_the_engine(
    backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    with Engine(backbone, MergedRunner(backbone, ExactSwapper(backbone)), metrics) as engine:
        with pytest.raises(Unavailable) as caught:
            engine.submit(cells, torch.zeros(7)).result(10)
        assert caught.value.code == "forward_failed"
        assert engine.submit(cells, image).result(10).scores.shape == (2,)


def test_stopping_finishes_accepted_images_and_refuses_new_ones(
    backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    engine = Engine(backbone, MergedRunner(backbone, ExactSwapper(backbone)), metrics, max_batch=2)
    with engine:
        futures = engine.submit_many([(cells, image)] * 7)
        engine.stop()
        with pytest.raises(Unavailable, match="shutting down"):
            engine.submit(cells, image)

    assert all(future.result(0).scores.shape == (2,) for future in futures)


def test_a_stop_that_runs_out_of_time_leaves_the_backbone_to_the_engines_thread(
    backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    """The thread that stops the engine must not unmount the adapter of a batch that is still being computed."""
    closed_by, gate = [], Gate(backbone)

    class Runner(MergedRunner):
        def close(self) -> None:
            closed_by.append(threading.current_thread().name)
            super().close()

    engine = Engine(backbone, Runner(backbone, gate), metrics)
    with engine:
        future = engine.submit(cells, image)
        while engine.waiting:
            pass
        engine.stop(timeout_s=0)
        assert closed_by == []
        gate.open.set()
        assert future.result(10).scores.shape == (2,)

    assert closed_by == ["lensmount-engine"]
    assert gate.mounted is None


def test_a_check_computes_the_images_that_arrive_between_two_tensors(
    fresh_backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, image: torch.Tensor
) -> None:
    """The images arrive after the first tensor, and are answered long before the check ends."""
    order: list[str] = []

    class Busy(MergedRunner):
        def changed(self, between: Callable[[], None] = lambda: None) -> list[str]:
            def arrive() -> None:
                if not order:
                    order.append("check")
                    for adapter in (cells, tiles):
                        engine.submit(adapter, image).add_done_callback(lambda _: order.append("image"))
                between()

            found = super().changed(arrive)
            order.append("checked")
            return found

    with Engine(fresh_backbone, Busy(fresh_backbone, ExactSwapper(fresh_backbone)), metrics, max_batch=1) as engine:
        alone = engine.submit(cells, image).result(10).scores
        report = engine.integrity().result(10)
        assert torch.equal(engine.submit(cells, image).result(10).scores, alone)
        fresh_backbone.tensors["layer1.0.conv1.weight"].view(-1)[0] += 1e-3
        order.clear()
        damaged = engine.integrity().result(10)

    assert report.ok
    assert damaged.changed == ("layer1.0.conv1.weight",)
    assert order == ["check", "image", "image", "checked"]


def test_a_check_waits_until_the_running_batch_is_computed(
    fresh_backbone: Backbone, metrics: Metrics, cells: Adapter, image: torch.Tensor
) -> None:
    mounted, go_on = threading.Event(), threading.Event()

    class Slow(ExactSwapper):
        """Waits between the switch of the weights and the forward pass."""

        def mount(self, adapter: Adapter) -> bool:
            switched = super().mount(adapter)
            mounted.set()
            go_on.wait(10)
            return switched

    swapper = Slow(fresh_backbone)
    with Engine(fresh_backbone, MergedRunner(fresh_backbone, swapper), metrics) as engine:
        running = engine.submit(cells, image)
        assert mounted.wait(10)
        check = engine.integrity()
        on_the_weights = swapper.mounted
        go_on.set()
        scores = running.result(10).scores
        assert check.result(10).ok
        assert torch.equal(engine.submit(cells, image).result(10).scores, scores)

    assert on_the_weights is cells
