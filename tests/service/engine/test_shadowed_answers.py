"""An image with a shadow is answered by the engine as without one, whatever the shadow does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import pytest
import torch
from tests.service.engine.planted_shadows import PATIENCE_S, Gate, Told
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.kept_trunk import Branches, Kept
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import BatchScores
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.engine.engine import Engine
from lensmount_service.metrics import Metrics

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, Until


@pytest.fixture
def cells(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(1, ("a", "b")), backbone)


@pytest.fixture
def tiles(backbone: Backbone, make_adapter: MakeAdapter) -> Adapter:
    return admit(make_adapter(2, ("a", "b")), backbone)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0", "resnet10t", "sha256:0")


class Watched(SegmentRunner):
    """Its branches call `fault` first."""

    fault: Callable[[], object] = staticmethod(lambda: None)

    def branches(self) -> Branches:
        watched = self

        class Own(Branches):
            def scores(self, kept: Sequence[Kept]) -> BatchScores:
                watched.fault()
                return super().scores(kept)

        return Own()


@pytest.fixture
def runner(backbone: Backbone) -> Watched:
    return Watched(backbone, choose_executor("eager", "float32", "cpu", 1, None), max_batch=4)


def drawn(count: int) -> list[Tensor]:
    return list(torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)))


def test_the_answer_is_given_before_its_shadow_is_computed(
    backbone: Backbone, runner: Watched, metrics: Metrics, cells: Adapter, tiles: Adapter, gate: Gate, until: Until
) -> None:
    runner.fault = lambda: gate("")
    told, (image,) = Told(tiles), drawn(1)
    with Engine(backbone, runner, metrics) as engine:
        runner.prepare(tiles)
        plain = engine.submit(cells, image).result(PATIENCE_S)
        (future,) = engine.submit_many([(cells, image)], shadows=[told.shadow])
        assert torch.equal(future.result(PATIENCE_S).scores, plain.scores)
        assert told.results == []
        gate.open.set()
        until(lambda: told.results)
        direct = engine.submit(tiles, image).result(PATIENCE_S)
    (result,) = told.results
    assert torch.equal(result.stable, plain.scores)
    assert (cast(Tensor, result.scores) - direct.scores).abs().max() < 1e-5
    assert result.shared_trunk


def test_each_image_of_a_mixed_batch_has_its_own_shadow_or_none(
    backbone: Backbone, runner: Watched, metrics: Metrics, cells: Adapter, tiles: Adapter, until: Until
) -> None:
    images, of_cells, of_tiles = drawn(4), Told(tiles), Told(cells)
    work = [(cells, images[0]), (tiles, images[1]), (cells, images[2]), (tiles, images[3])]
    with Engine(backbone, runner, metrics, max_batch=4) as engine:
        for adapter in (cells, tiles):
            runner.prepare(adapter)
        plain = [future.result(PATIENCE_S) for future in engine.submit_many(work)]
        futures = engine.submit_many(work, shadows=[of_cells.shadow, of_tiles.shadow, None, None])
        for future, same in zip(futures, plain, strict=True):
            assert torch.equal(future.result(PATIENCE_S).scores, same.scores)
        until(lambda: of_cells.results and of_tiles.results)
        crossed = [(tiles, images[0]), (cells, images[1])]
        direct = [future.result(PATIENCE_S).scores for future in engine.submit_many(crossed)]
        assert engine.integrity().result(PATIENCE_S).ok
    for told, scores in zip((of_cells, of_tiles), direct, strict=True):
        (result,) = told.results
        assert (cast(Tensor, result.scores) - scores).abs().max() < 1e-5


def test_shadows_are_shed_once_the_process_is_asked_to_stop(
    backbone: Backbone, runner: Watched, metrics: Metrics, cells: Adapter, tiles: Adapter, until: Until
) -> None:
    told = Told(tiles)
    with Engine(backbone, runner, metrics) as engine:
        runner.prepare(tiles)
        engine.stopping = lambda: True
        (future,) = engine.submit_many([(cells, drawn(1)[0])], shadows=[told.shadow])
        assert future.result(PATIENCE_S).scores.isfinite().all()
        until(lambda: told.results)
    assert told.whys == ["shed"]


def test_a_runner_that_keeps_nothing_answers_and_says_that_there_is_no_shadow(
    backbone: Backbone, metrics: Metrics, cells: Adapter, tiles: Adapter, until: Until
) -> None:
    told = Told(tiles)
    with Engine(backbone, MergedRunner(backbone, ExactSwapper(backbone)), metrics) as engine:
        (future,) = engine.submit_many([(cells, drawn(1)[0])], shadows=[told.shadow])
        assert future.result(PATIENCE_S).scores.isfinite().all()
        until(lambda: told.results)
    assert told.whys == ["not_ready"]


def test_an_engine_stops_while_a_shadow_hangs(
    backbone: Backbone, runner: Watched, metrics: Metrics, cells: Adapter, tiles: Adapter, gate: Gate
) -> None:
    runner.fault = lambda: gate("")
    told = Told(tiles)
    with Engine(backbone, runner, metrics) as engine:
        runner.prepare(tiles)
        (future,) = engine.submit_many([(cells, drawn(1)[0])], shadows=[told.shadow])
        future.result(PATIENCE_S)
        gate.entered.wait(PATIENCE_S)
    assert not engine.accepting
    assert not gate.open.is_set()


def test_a_pass_that_fails_only_with_shadows_is_computed_without_them(
    backbone: Backbone,
    runner: Watched,
    metrics: Metrics,
    cells: Adapter,
    tiles: Adapter,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("planted")

    told, (image,) = Told(tiles), drawn(1)
    with Engine(backbone, runner, metrics) as engine:
        plain = engine.submit(cells, image).result(PATIENCE_S)
        monkeypatch.setattr(runner, "scores_keeping", fails)
        monkeypatch.setattr(runner, "scores", lambda items: BatchScores([plain.scores] * len(items)))  # it calls that
        (future,) = engine.submit_many([(cells, image)], shadows=[told.shadow])
        assert torch.equal(future.result(PATIENCE_S).scores, plain.scores)
        until(lambda: told.results)
    assert told.whys == ["not_ready"]
    assert not engine.quarantine.holds(cells.digest)
