"""Adapters with an int8 trunk and others are answered side by side, each by its own trunk alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners import hot_programs
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.kept_trunk import fits
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network
from lensmount_adapters.trunks.ranges import recorded_ranges
from lensmount_adapters.trunks.record import FLOAT32, INT8, INT8_BRANCH, Figures, Int8Use, recorded

pytest.importorskip("nncf")
Ask = Callable[..., list[Any]]


class Trunks(CostBook):
    """An int8 trunk costs this much, as measured at an earlier start, and a float one 1 second."""

    def __init__(self, int8: float, known: bool = True) -> None:
        super().__init__()
        self._int8 = int8
        self._known = known

    @property
    def lines(self) -> Any:
        known = LinearCost(self._int8, 0.0) if self._known else None
        found = {"trunk in int8": known, "trunk in float": LinearCost(1.0, 0.0) if self._known else None}
        return SimpleNamespace(get=lambda name: found.get(name.partition(",")[0]))

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        if name.endswith(": trunk") or name.startswith("trunk in float"):
            return LinearCost(1.0, 0.0)
        if name.startswith("trunk in int8"):
            assert measure().per_image >= 0
            self._known = True
            return LinearCost(self._int8, 0.0)
        return LinearCost(1.0, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8")


@pytest.fixture(scope="module")
def pair(backbone: Backbone, draw_adapter: Any, folder: Path) -> list[Adapter]:
    """Two adapters of layer4; the record of the second says that int8 costs nothing."""
    at = Segments(backbone.module).halves(["layer4.0.conv1.weight"]).at
    figures = Figures("test", 100, 0.9, 0.02)
    trunk = Int8Trunks(folder=folder).recipe(backbone, at)
    made = []
    for seed in (1, 2):
        parts = draw_adapter(backbone, seed=seed, modules=r"layer4.*", size=0.2)
        if seed == 2:
            int8 = Figures("test", 100, 0.9, 0.02, trunk)
            parts.manifest["training"] = recorded({FLOAT32: figures, INT8: int8})
        made.append(admit(parts.dump(), backbone))
    return made


@pytest.fixture
def runner_of(backbone: Backbone, executor_of: Callable[..., Executor], folder: Path) -> Iterator[Any]:
    """`runner_of(asked=False, cost=0.5, known=True)`: an int8 trunk costs this share of a float one."""
    made: list[SegmentRunner] = []

    def make(*, asked: bool = False, cost: float = 0.5, known: bool = True) -> SegmentRunner:
        use, book = Int8Use(Int8Trunks(folder=folder), asked), Trunks(cost, known)
        made.append(SegmentRunner(backbone, executor_of("openvino float32"), book=book, int8=use))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def int8_scores(backbone: Backbone, folder: Path, executor: Executor, asked: Any) -> torch.Tensor:
    """The scores of one image, by the kept trunk and then torch with merged weights."""
    halves = Segments(backbone.module).halves(["layer4.0.conv1.weight"])
    x = Int8Trunks(folder=folder).of(backbone, halves, executor).program(asked.image[None])
    merged = {d.target.name: d.merged(backbone.base([d.target.name])[d.target.name]) for d in asked.adapter.deltas}
    with torch.inference_mode():
        features = torch.func.functional_call(halves.branch, merged, (x,))
    scores: torch.Tensor = asked.adapter.scores(features)[0]
    return scores


def test_one_batch_holds_both_and_each_answer_is_that_of_its_own_trunk(
    backbone: Backbone,
    pair: list[Adapter],
    runner_of: Any,
    folder: Path,
    questions: Ask,
    check: Any,
    executor_of: Callable[..., Executor],
) -> None:
    runner = runner_of()
    asked = questions(pair, 6)
    for _ in range(20):  # by the end the programs of each adapter are hot, and joined end to end
        outcome = runner.scores(asked)
        runner.settle()
        check(asked[::2], outcome.scores[::2])
        for item, scores in list(zip(asked, outcome.scores, strict=True))[1::2]:
            expected = int8_scores(backbone, folder, executor_of("openvino float32"), item)
            assert (scores - expected).abs().max() < 1e-3
    assert {bool(split.trunk_identity.quantised) for split in runner.splits} == {True, False}
    assert len({split.key for split in runner.splits} | {split.trunk_identity.key for split in runner.splits}) == 4
    assert runner.describe()["trunk"] == "int8 where it costs nothing"


def test_asked_for_it_serves_every_adapter(pair: list[Adapter], runner_of: Any, questions: Ask) -> None:
    runner = runner_of(asked=True, cost=2.0)
    runner.scores(questions(pair, 2))
    assert [split.trunk_identity.precision for split in runner.splits] == ["int8 float32"]
    assert runner.describe()["trunk"] == "int8"


def test_where_it_is_not_faster_nobody_has_it_unless_asked(
    pair: list[Adapter], runner_of: Any, questions: Ask, check: Any
) -> None:
    runner = runner_of(cost=0.9)
    asked = questions(pair, 4)
    check(asked, runner.scores(asked).scores)
    assert [split.trunk_identity.quantised for split in runner.splits] == [""]


def test_no_start_waits_until_int8_is_measured_and_later_adapters_have_it(
    pair: list[Adapter], runner_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_programs, "LEISURE_S", 0.0)
    runner = runner_of(known=False)
    runner.prepare(pair[1])
    assert not runner._split_of(pair[1]).trunk_identity.quantised
    runner.settle()
    runner._ready.clear()  # as if the same file were admitted again
    runner.prepare(pair[1])
    assert runner._split_of(pair[1]).trunk_identity.quantised


def test_a_shadow_is_never_computed_from_the_trunk_of_another_precision(pair: list[Adapter], runner_of: Any) -> None:
    runner = runner_of()
    for adapter in pair:
        runner.prepare(adapter)
    floating, int8 = (runner._split_of(adapter) for adapter in pair)
    assert not fits(pair[0], floating, int8)
    assert not fits(pair[1], int8, floating)
    assert fits(pair[1], int8, int8)


def test_where_no_int8_trunk_can_be_made_the_float_one_answers_and_it_is_tried_once(
    pair: list[Adapter],
    runner_of: Any,
    questions: Ask,
    check: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise BackboneError("no NNCF today")

    monkeypatch.setattr(Int8Trunks, "of", refuse)
    runner = runner_of(asked=True)
    asked = questions(pair, 4)
    check(asked, runner.scores(asked).scores)
    assert caplog.text.count("no NNCF today") == 1


def test_where_the_server_wants_it_a_hot_adapter_has_its_branch_in_int8_if_its_record_allows_that(
    backbone: Backbone, folder: Path, questions: Ask, draw_adapter: Any, executor_of: Callable[..., Executor]
) -> None:
    trunks, parts = Int8Trunks(folder=folder), draw_adapter(backbone, seed=3, modules=r"layer4.*", size=0.2)
    drawn = admit(parts.dump(), backbone)
    network = Int8Network(backbone, trunks, [delta.target.name for delta in drawn.deltas])
    images = questions([drawn], 3)
    whole, ranges = network.with_int8_branch(drawn, [each.image[None] for each in images])
    figures = {FLOAT32: Figures("test", 9, 0.9, 0.02), INT8_BRANCH: Figures("test", 9, 0.9, 0.02, network.recipe)}
    parts.manifest["training"] = recorded(figures) | recorded_ranges(ranges, network.recipe, 3)
    adapter = admit(parts.dump(), backbone)
    asked = questions([adapter], 3)
    in_int8 = torch.stack([adapter.scores(whole.features(each.image[None]))[0] for each in asked])
    in_float = torch.stack([int8_scores(backbone, folder, executor_of("openvino float32"), each) for each in asked])
    assert (in_int8 - in_float).abs().max() > 1e-4

    for branches, expected in ((False, in_float), (True, in_int8)):
        runner = SegmentRunner(
            backbone, executor_of("openvino float32"), int8=Int8Use(trunks, asked=True, branches=branches)
        )
        for _ in range(20):
            hot = runner.scores(asked)
            runner.settle()
        runner.close()
        assert (torch.stack(list(hot.scores)) - expected).abs().max() < 5e-5
