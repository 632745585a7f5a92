"""Every way to compute a batch gives the answers of plain torch with merged weights; none writes the backbone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.adapter.adapter import ORIENTATIONS
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.errors import ExecutorUnavailable, SwapError
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.split_backbone import FIRST_TRIES, MEASURE_ANEW_AFTER, STEADY_BATCHES

BOUNDS = {torch.float32: 2e-4, torch.bfloat16: 0.05}
LONE_IMAGES = 16  # more than it takes to get a whole program


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


def expected(backbone: Backbone, adapter: Adapter, image: Tensor) -> Tensor:
    """Scores by torch alone, in float64: base weights plus dense deltas, lent to the untouched module."""
    module = load_backbone(backbone.name, "random:0").module.double()
    weights = {name: tensor.double() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    for delta in adapter.deltas:
        weights[delta.target.name] = weights[delta.target.name] + delta.dense().double()
    head = {name: tensor.double() for name, tensor in adapter.head.state_dict().items()}
    turns = ORIENTATIONS[adapter.manifest.preprocessing.orientations]
    with torch.no_grad():
        features = [functional_call(module, weights, (orient(image.double(), t)[None],)) for t in turns]
        logits = torch.stack([functional_call(adapter.head, head, (each,)) for each in features]).mean(0)
    return probabilities(adapter.manifest.head, logits)[0]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet10t", "random:0")


@pytest.fixture(scope="module")
def adapters(backbone: Backbone, draw_adapter: Callable[..., Any]) -> list[Adapter]:
    """Different methods, layers, ranks and class counts; the last layer only, half of the network, all of it."""
    wishes: list[dict[str, Any]] = [
        {"method": "lora", "modules": r"layer4.*", "rank": 4},
        {"method": "lora", "modules": r"layer4.*", "rank": 3, "labels": ("x", "y", "z")},
        {"method": "lora-tucker", "modules": r"layer4.*", "rank": 2},
        {"method": "norm", "modules": r"layer4.*"},
        {"method": "mixed", "modules": r"layer[34].*", "rank": 4},
        {"method": "lora", "modules": r"layer3.*", "rank": 8},
        {"method": "head"},
        {"method": "statistics", "modules": r"layer4.*"},
    ]
    return [
        admit(draw_adapter(backbone, seed=seed, size=0.2, **wish).dump(), backbone) for seed, wish in enumerate(wishes)
    ]


@pytest.fixture(params=["float32", "bfloat16"])
def runner(request: pytest.FixtureRequest, backbone: Backbone) -> Iterator[SegmentRunner]:
    executor = choose_executor("eager", request.param, backbone.device, 1, None)
    runner = SegmentRunner(backbone, executor, max_batch=8)
    yield runner
    runner.close()


def questions(adapters: Sequence[Adapter], count: int, size: int = 64) -> list[Question]:
    draw = torch.Generator().manual_seed(count)
    return [Question(adapters[n % len(adapters)], torch.randn(3, size, size, generator=draw)) for n in range(count)]


def check(backbone: Backbone, asked: Sequence[Question], scores: Sequence[Tensor], bound: float) -> None:
    for question, found in zip(asked, scores, strict=True):
        right = expected(backbone, question.adapter, question.image)
        assert found.shape == right.shape
        assert (found.double() - right).abs().max() < bound


def test_a_batch_of_every_kind_of_adapter_is_answered_rightly(
    backbone: Backbone, adapters: list[Adapter], runner: SegmentRunner
) -> None:
    asked = questions(adapters, 16)

    outcome = runner.scores(asked)

    check(backbone, asked, outcome.scores, BOUNDS[runner._executor.dtype])
    assert sum(outcome.modes.values()) == 16
    assert runner.changed() == []


def modes_of(runner: SegmentRunner, asked: Sequence[Question]) -> tuple[list[Tensor], dict[str, int]]:
    outcome = runner.scores(asked)
    return outcome.scores, outcome.modes


def free_mixing(runner: SegmentRunner) -> None:
    """Make the cost model take every mixed batch that it may."""
    runner.settle()
    for junction in runner._junctions.values():
        if junction.costs.mixed is not None:
            junction.costs = replace(junction.costs, mixed=LinearCost(0.0, 0.0), pack=0.0)


@pytest.mark.parametrize("executor", ["eager float32", "eager bfloat16", "openvino float32", "openvino bfloat16"])
@pytest.mark.parametrize("mode", ["hot", "merged", "mixed"])
def test_hot_merged_and_mixed_agree_with_plain_torch(
    backbone: Backbone, adapters: list[Adapter], executor: str, mode: str
) -> None:
    name, precision = executor.split()
    if name == "openvino":
        pytest.importorskip("openvino")
    same_cut = [adapters[n] for n in (0, 1, 2, 3, 7)]
    asked = questions(same_cut, 10)
    try:
        chosen = choose_executor(name, precision, backbone.device, 1, None)
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    runner = SegmentRunner(backbone, chosen, max_batch=8, hot_bytes=10**9 if mode == "hot" else 0)
    for adapter in same_cut:
        runner.prefetch(adapter)
    runner.settle()
    runner.settle()  # the first settles what the prefetches then ask for
    if mode == "mixed":
        free_mixing(runner)
    else:
        for junction in runner._junctions.values():
            junction.costs = replace(junction.costs, mixed=None)

    scores, modes = modes_of(runner, asked)
    runner.close()

    assert modes == {mode: 10}
    check(backbone, asked, scores, BOUNDS[chosen.dtype])


def test_the_same_image_for_many_adapters_goes_through_the_trunk_once(
    backbone: Backbone, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    image = torch.randn(3, 64, 64)
    asked = [Question(adapters[n], image) for n in (0, 1, 2, 3)]
    runner.scores(asked)
    seen: list[int] = []
    (junction,) = runner._junctions.values()
    trunk = junction.activations
    monkeypatch.setattr(junction, "activations", lambda images: (seen.append(len(images)), trunk(images))[1])

    scores, _ = modes_of(runner, asked)
    runner.close()

    assert seen == [1]
    check(backbone, asked, scores, BOUNDS[torch.float32])


def test_the_bits_of_an_answer_do_not_depend_on_what_was_asked_before(
    backbone: Backbone, adapters: list[Adapter]
) -> None:
    runner = SegmentRunner(
        backbone, choose_executor("eager", "float32", backbone.device, 1, None), hot_bytes=0, max_batch=1
    )
    draw = torch.Generator().manual_seed(5)
    asked = questions(adapters[:6], 6)
    first = [runner.scores([question]).scores[0] for question in asked]

    for _ in range(60):
        number = int(torch.randint(6, (1,), generator=draw))
        again = runner.scores([asked[number]]).scores[0]
        assert torch.equal(again, first[number])
    assert runner.changed() == []
    runner.close()


def test_a_merge_that_breaks_off_changes_nothing_for_those_after_it(
    backbone: Backbone, adapters: list[Adapter]
) -> None:
    class Breaking:
        def __init__(self, delta: Any) -> None:
            self._delta, self.target, self.rank = delta, delta.target, None

        def write(self, base: Tensor, live: Tensor) -> None:
            live.fill_(7)
            raise MemoryError

        def dense(self) -> Tensor:
            raise MemoryError

    broken = replace(adapters[3], digest="sha256:broken", deltas=(Breaking(adapters[3].deltas[0]),))  # type: ignore[arg-type]
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None), hot_bytes=0)
    asked = questions(adapters[:4], 4)

    with pytest.raises((SwapError, MemoryError)):
        runner.scores([Question(broken, asked[0].image)])

    scores, _ = modes_of(runner, asked)
    check(backbone, asked, scores, BOUNDS[torch.float32])
    assert runner.changed() == []
    runner.close()


def test_what_is_forgotten_gives_its_hot_place_back(backbone: Backbone, adapters: list[Adapter]) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    runner.prefetch(adapters[0])
    runner.settle()
    runner.settle()
    assert runner.tier(adapters[0].digest) == "hot"
    assert runner.nbytes()["hot"] > 0

    runner.forget(adapters[0].digest)

    assert runner.tier(adapters[0].digest) is None
    assert runner.nbytes()["hot"] == 0
    runner.close()


def test_several_orientations_are_averaged(backbone: Backbone, draw_adapter: Callable[..., Any]) -> None:
    parts = draw_adapter(backbone, modules=r"layer4.*")
    parts.manifest["preprocessing"]["orientations"] = 8
    adapter = admit(parts.dump(), backbone)
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    asked = questions([adapter], 3)

    scores, _ = modes_of(runner, asked)
    runner.close()

    check(backbone, asked, scores, BOUNDS[torch.float32])


def test_images_of_different_sizes_share_a_batch(backbone: Backbone, adapters: list[Adapter]) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    asked = questions(adapters[:3], 3, size=64) + questions(adapters[:3], 3, size=96)

    scores, _ = modes_of(runner, asked)
    runner.close()

    check(backbone, asked, scores, BOUNDS[torch.float32])


def test_an_adapter_of_a_layer_that_is_no_input_is_merged_in_place(
    backbone: Backbone, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    monkeypatch.setattr("lensmount_adapters.graph.functional.FunctionalBranch.covers", lambda self, deltas: False)
    asked = questions(adapters[:2], 4)

    own = logging.getLogger("lensmount_adapters.runners.segment_runner")
    monkeypatch.setattr(own, "disabled", False)  # whatever other libraries did to logging in this process
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    own.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING, logger=own.name):
        scores, modes = modes_of(runner, asked)
    own.removeHandler(caplog.handler)
    runner.close()

    assert modes == {"merged": 4}
    assert "merged in place" in caplog.text
    assert backbone.changed() == []
    check(backbone, asked, scores, BOUNDS[torch.float32])
    assert runner.changed() == []


def test_costs_move_towards_what_batches_took(backbone: Backbone, adapters: list[Adapter]) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    runner.scores(questions(adapters[:1], 1))
    (junction,) = runner._junctions.values()
    junction.costs = replace(junction.costs, hot=LinearCost(0.001, 0.001))

    for _ in range(100):
        junction.learn("hot", 1, 0.005)
    assert junction.costs.hot(1) == pytest.approx(0.005, rel=1e-3)
    for _ in range(100):
        junction.learn("hot", 1, 0.0)
    assert junction.costs.hot(1) < 1e-6
    runner.close()


def test_one_slow_run_hardly_moves_a_cost_and_an_adapter_alone_only_one_that_is_far_too_high(
    backbone: Backbone, adapters: list[Adapter]
) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    runner.scores(questions(adapters[:1], 1))
    (junction,) = runner._junctions.values()
    junction.costs = replace(junction.costs, hot=LinearCost(0.001, 0.001))

    junction.learn("hot", 1, 5.0)
    assert junction.costs.hot(1) == pytest.approx(0.0022)
    junction.learn("hot", 1, 0.0015, alone=True)
    assert junction.costs.hot(1) == pytest.approx(0.0022)
    junction.learn("hot", 1, 0.0005, alone=True)
    assert junction.costs.hot(1) < 0.0021
    runner.close()


def cheap_company(runner: SegmentRunner) -> None:
    """Make the cost model take the company's program wherever there is one."""
    runner.settle()
    for junction in runner._junctions.values():
        junction.costs = replace(junction.costs, hot=LinearCost(1.0, 1.0), mixed=None, together=LinearCost(0.0, 0.0))


@pytest.mark.parametrize("executor", ["eager float32", "eager bfloat16", "openvino float32", "openvino bfloat16"])
def test_adapters_that_come_together_get_one_program_with_the_same_answers(
    backbone: Backbone, adapters: list[Adapter], executor: str
) -> None:
    name, precision = executor.split()
    if name == "openvino":
        pytest.importorskip("openvino")
    try:
        chosen = choose_executor(name, precision, backbone.device, 1, None)
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    same_cut = [adapters[n] for n in (0, 1, 2, 3, 7)]
    asked = questions(same_cut, 10)
    runner = SegmentRunner(backbone, chosen, max_batch=8)
    for adapter in same_cut:
        runner.prepare(adapter)
    runner.settle()
    for _ in range(STEADY_BATCHES + 2):
        runner.scores(asked)
    cheap_company(runner)
    (junction,) = runner._junctions.values()
    assert junction.company is not None
    assert junction.company in runner._places

    scores, modes = modes_of(runner, asked)
    assert modes in ({"mixed": 10}, {"whole": 10})  # whole: where the executor joins programs, after a while
    check(backbone, asked, scores, BOUNDS[chosen.dtype])
    few = [asked[3], asked[1], asked[6]]  # some of them, in another order, one twice
    scores, modes = modes_of(runner, few)
    assert modes in ({"mixed": 3}, {"whole": 3})
    check(backbone, few, scores, BOUNDS[chosen.dtype])
    _, modes = modes_of(runner, asked[:1])
    assert "mixed" not in modes  # one alone: the same bits whatever was asked before
    assert runner.changed() == []
    runner.close()


@pytest.fixture
def joining(backbone: Backbone) -> Iterator[SegmentRunner]:
    """On the executor that joins programs."""
    pytest.importorskip("openvino")
    runner = SegmentRunner(backbone, choose_executor("openvino", "float32", backbone.device, 1, None), max_batch=8)
    yield runner
    runner.close()


def test_an_adapter_that_is_asked_alone_gets_one_program_with_the_same_answers(
    joining: SegmentRunner, backbone: Backbone, adapters: list[Adapter], draw_adapter: Callable[..., Any]
) -> None:
    parts = draw_adapter(backbone, seed=60, modules=r"layer4.*")
    parts.manifest["preprocessing"]["orientations"] = 4
    turned = admit(parts.dump(), backbone)
    for adapter in (adapters[0], turned):
        asked = questions([adapter], 3)
        _, modes = modes_of(joining, asked)
        assert "whole" not in modes
        for _ in range(LONE_IMAGES):
            for few in (asked, asked[:1]):  # one image has a program of its own
                joining.scores(few)
                joining.settle()

        for few in (asked, asked[1:2], [asked[2], asked[0]]):
            scores, modes = modes_of(joining, few)
            assert modes == {"whole": len(few)}
            check(backbone, few, scores, BOUNDS[torch.float32])
        assert joining.tier(adapter.digest) == "hot"

    asked = questions([adapters[0], adapters[1]], 4)
    scores, modes = modes_of(joining, asked)
    assert "whole" not in modes  # the adapters have nothing in common but the trunk
    check(backbone, asked, scores, BOUNDS[torch.float32])
    held = joining.nbytes()["hot"]
    joining.forget(adapters[0].digest)
    assert joining.tier(adapters[0].digest) is None
    assert joining.nbytes()["hot"] < held
    assert joining.changed() == []


def test_a_steady_company_gets_one_program_but_shared_images_go_through_the_trunk_once(
    joining: SegmentRunner, backbone: Backbone, adapters: list[Adapter]
) -> None:
    same_cut = [adapters[n] for n in (0, 1, 2, 3, 7)]
    asked = questions(same_cut, 10)
    for _ in range(STEADY_BATCHES + 2):
        joining.scores(asked)
        joining.settle()
    cheap_company(joining)
    for _ in range(LONE_IMAGES):
        joining.scores(asked)
        joining.settle()

    for few in (asked, asked[2:6]):
        scores, modes = modes_of(joining, few)
        assert modes == {"whole": len(few)}
        check(backbone, few, scores, BOUNDS[torch.float32])
    (junction,) = joining._junctions.values()
    junction.costs = replace(junction.costs, together=None)  # to be measured anew, which only the branch alone can be
    junction._tries = []
    assert [set(joining.scores(asked).modes) for _ in range(FIRST_TRIES)] == [{"mixed"}] * FIRST_TRIES
    assert junction.costs.together is not None
    cheap_company(joining)
    assert joining.scores(asked).modes == {"whole": 10}
    shared = [Question(adapter, asked[0].image) for adapter in same_cut]
    scores, modes = modes_of(joining, shared)
    assert "whole" not in modes
    check(backbone, shared, scores, BOUNDS[torch.float32])

    company, held = junction.company, joining.nbytes()["hot"]
    joining._give_up(company)
    assert joining.nbytes()["hot"] < held
    scores, modes = modes_of(joining, asked)
    assert "whole" not in modes
    check(backbone, asked, scores, BOUNDS[torch.float32])


def test_a_company_that_seemed_too_dear_is_measured_anew(backbone: Backbone, adapters: list[Adapter]) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None))
    asked = questions(adapters[:2], 2, size=32)
    for _ in range(STEADY_BATCHES + 2):
        runner.scores(asked)
        runner.settle()
    (junction,) = runner._junctions.values()
    junction.costs = replace(junction.costs, together=LinearCost(9.0, 9.0))

    for _ in range(MEASURE_ANEW_AFTER):
        runner.scores(asked)
        assert junction.costs.together in (LinearCost(9.0, 9.0), None)
    for _ in range(FIRST_TRIES):
        assert runner.scores(asked).modes == {"mixed": 2}
    assert junction.costs.together is not None
    assert junction.costs.together(2) < 1
    runner.close()


def test_a_company_changes_with_who_comes_and_holds_one_place(
    backbone: Backbone, adapters: list[Adapter], draw_adapter: Callable[..., Any]
) -> None:
    runner = SegmentRunner(backbone, choose_executor("eager", "float32", backbone.device, 1, None), max_batch=3)
    first, second, third = (adapters[n] for n in (0, 1, 3))
    newcomer = admit(draw_adapter(backbone, seed=50, method="lora", modules=r"layer4.*", rank=4).dump(), backbone)

    def come(*them: Adapter) -> None:
        for _ in range(STEADY_BATCHES + 2):
            runner.scores(questions(them, len(them)))
            runner.settle()

    come(first, second, third)
    (junction,) = runner._junctions.values()
    before = junction.company
    assert before is not None
    assert {one.digest for one in before.members} == {first.digest, second.digest, third.digest}
    come(first, second)
    assert junction.company is before  # the third keeps its slot: it costs nothing
    come(second, newcomer)
    after = junction.company
    assert after is not None
    assert after is not before
    assert newcomer.digest in {one.digest for one in after.members}
    assert before not in runner._places
    assert after in runner._places

    asked = questions([second, newcomer], 4)
    check(backbone, asked, runner.scores(asked).scores, BOUNDS[torch.float32])
    runner.close()


def test_a_changing_company_and_one_without_room_are_not_bound(backbone: Backbone, adapters: list[Adapter]) -> None:
    executor = choose_executor("eager", "float32", backbone.device, 1, None)
    crowded = SegmentRunner(backbone, executor, max_batch=2)
    for turn in range(2 * STEADY_BATCHES):  # three take turns in two slots
        crowded.scores(questions([adapters[(0, 1, 3)[(turn + n) % 3]] for n in range(2)], 2))
    (junction,) = crowded._junctions.values()
    assert junction.company is None
    crowded.close()

    poor = SegmentRunner(backbone, executor, hot_bytes=0)
    for _ in range(STEADY_BATCHES + 2):
        poor.scores(questions(adapters[:2], 2))
        poor.settle()
    assert poor.nbytes() == {"hot": 0}
    poor.close()


def test_a_whole_program_gives_way_to_an_adapter_without_a_hot_place(
    backbone: Backbone, adapters: list[Adapter]
) -> None:
    pytest.importorskip("openvino")
    executor = choose_executor("openvino", "float32", backbone.device, 1, None)
    ample = SegmentRunner(backbone, executor)
    ask_alone(ample, adapters[0])
    both = ample.nbytes()["hot"] + next(iter(ample._junctions.values())).hot_nbytes
    ample.close()

    runner = SegmentRunner(backbone, executor, hot_bytes=both - 1)  # two hot ones fit, or one and its whole program
    ask_alone(runner, adapters[0])
    assert modes_of(runner, questions(adapters[:1], 1))[1] == {"whole": 1}
    ask_alone(runner, adapters[1])

    assert [runner.tier(adapter.digest) for adapter in adapters[:2]] == ["hot", "hot"]
    assert modes_of(runner, questions(adapters[:1], 1))[1] == {"hot": 1}
    runner.close()


def ask_alone(runner: SegmentRunner, adapter: Adapter) -> None:
    for _ in range(LONE_IMAGES):
        runner.scores(questions([adapter], 1))
        runner.settle()
