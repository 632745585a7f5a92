"""A pass leaves what another adapter's branch needs: its own scores keep their bits, and the branch gives its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.kept_trunk import KEPT_PROGRAMS, Branches, KeepsTrunk, Kept
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.swap.exact import ExactSwapper

FREE, DEAR, NEVER = LinearCost(0.0, 0.0), LinearCost(1e9, 1e9), LinearCost(1e18, 1e18)
LONE_IMAGES = 13  # more than it takes to get an end-to-end program
CLOSE = {"float32": 1e-5, "bfloat16": 0.02}  # of scores: a batch of another size may be summed in another order
Ask = Callable[..., list[Any]]
Make = Callable[..., SegmentRunner]


@pytest.fixture
def make(backbone: Backbone, executor_of: Callable[..., Executor]) -> Iterator[Make]:
    """`make("openvino bfloat16", hot_bytes=0)`: a runner, closed after the test."""
    runners: list[SegmentRunner] = []

    def make(name: str = "eager float32", **options: Any) -> SegmentRunner:
        runners.append(SegmentRunner(backbone, executor_of(name), max_batch=8, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture
def turned(backbone: Backbone, draw_adapter: Callable[..., Any]) -> Callable[[int], Adapter]:
    """`turned(seed)`: an adapter that is asked about four orientations of an image."""

    def draw(seed: int) -> Adapter:
        parts = draw_adapter(backbone, seed=seed, modules=r"layer4.*", size=0.2)
        parts.manifest["preprocessing"]["orientations"] = 4
        return admit(parts.dump(), backbone)

    return draw


def keep(runner: SegmentRunner, asked: list[Any], shadow: Adapter) -> list[Kept]:
    """What one pass leaves for a shadow of each image."""
    runner.prepare(shadow)
    _, kept = runner.scores_keeping(asked, dict.fromkeys(range(len(asked)), shadow))
    assert kept.keys() == set(range(len(asked)))
    return [kept[number] for number in range(len(asked))]


@pytest.mark.parametrize("name", ["eager float32", "openvino bfloat16"])
def test_scores_have_the_same_bits_with_and_without_a_shadow_in_every_mode(
    name: str,
    make: Make,
    adapters: list[Adapter],
    same_cut: list[Adapter],
    given_costs: Callable[..., Any],
    questions: Ask,
) -> None:
    alone = [adapters[0]]
    batches = [questions(alone, 3), questions(alone, 1), questions(same_cut[:2], 4), questions(adapters[4:6], 2)]
    costs = {"hot": DEAR, "mixed": NEVER}  # measured ones would choose in another way in each runner
    with_shadows, without = (make(name, book=given_costs(**costs)) for _ in range(2))
    for runner in (with_shadows, without):
        runner.prepare(adapters[1])
    seen: set[str] = set()
    for _ in range(LONE_IMAGES):
        for asked in batches:
            shadows = dict.fromkeys(range(0, len(asked), 2), adapters[1])
            (outcome, kept), plain = with_shadows.scores_keeping(asked, shadows), without.scores(asked)
            assert set(kept) == set(shadows)
            assert outcome.modes == plain.modes
            assert all(torch.equal(*pair) for pair in zip(outcome.scores, plain.scores, strict=True))
            seen |= outcome.modes.keys()
            for runner in (with_shadows, without):
                runner.settle()
    assert {"merged", "hot"} <= seen
    assert ("whole" in seen) == name.startswith("openvino")
    assert with_shadows.nbytes() == without.nbytes()
    assert with_shadows.changed() == []


@pytest.mark.parametrize("name", ["eager float32", "openvino bfloat16"])
def test_a_branch_gives_the_scores_of_its_adapter_asked_directly(
    name: str, make: Make, turned: Callable[[int], Adapter], with_statistics: Any, questions: Ask, check: Any
) -> None:
    precision = name.split()[1]
    pairs = [(with_statistics(1), with_statistics(2)), (turned(3), turned(4))]
    runner, branches = make(name), Branches()
    for stable, shadow in pairs:
        asked = questions([stable], 3)
        direct = runner.scores(questions([shadow], 3))
        for from_image in (False, True):
            kept = keep(runner, asked, shadow)
            assert {each.from_image for each in kept} == {from_image and name.startswith("openvino")}
            outcome = branches.scores(kept)
            check(questions([shadow], 3), outcome.scores, precision)
            for mine, own in zip(outcome.scores, direct.scores, strict=True):
                assert (mine - own).abs().max() < CLOSE[precision]
            assert [x is None for x in outcome.pooled] == [x is None for x in direct.pooled]
            for pooled, own_pooled in zip(outcome.pooled, direct.pooled, strict=True):
                if pooled is not None and own_pooled is not None:
                    assert (pooled - own_pooled).abs().max() < 0.02 * own_pooled.abs().max()
            for _ in range(LONE_IMAGES):  # until the pass is one program, which leaves only the image
                runner.scores(asked)
                runner.settle()
    assert runner.changed() == []


def test_a_mixed_batch_leaves_something_for_the_items_with_a_shadow_alone(
    make: Make, same_cut: list[Adapter], given_costs: Callable[..., Any], questions: Ask, question: Any, check: Any
) -> None:
    runner = make(book=given_costs(hot=DEAR, merged=DEAR, mixed=FREE))
    asked = questions(same_cut, 7)
    runner.scores(asked)
    runner.settle()
    shadows = {0: same_cut[1], 3: same_cut[0], 5: same_cut[1]}

    outcome, kept = runner.scores_keeping(asked, shadows)

    assert outcome.modes == {"mixed": 7}
    assert list(kept) == [0, 3, 5]
    assert not any(each.from_image for each in kept.values())
    found = Branches().scores(list(kept.values()))
    check([question(shadows[n], asked[n].image) for n in kept], found.scores)


def test_the_cut_of_the_shadow_decides_what_is_kept(
    make: Make, adapters: list[Adapter], with_statistics: Any, questions: Ask, question: Any, check: Any
) -> None:
    late, early = adapters[0], adapters[5]  # they change layer4 and layer3
    runner, branches = make(), Branches()
    for stable, shadow, from_image in (
        (late, early, True),
        (early, late, False),
        (early, with_statistics(6), True),  # of activations that this pass does not have
        (late, adapters[6], False),  # which changes no layer at all
    ):
        asked = questions([stable], 2)
        kept = keep(runner, asked, shadow)
        assert {each.from_image for each in kept} == {from_image}
        check([question(shadow, each.image) for each in asked], branches.scores(kept).scores)


def test_nothing_is_kept_for_a_shadow_that_is_not_ready_or_reads_images_in_another_way(
    make: Make, adapters: list[Adapter], turned: Callable[[int], Adapter], questions: Ask
) -> None:
    runner, asked = make(), questions([adapters[0]], 2)
    assert runner.scores_keeping(asked, {0: adapters[1]})[1] == {}
    runner.prepare(adapters[1])
    assert set(runner.scores_keeping(asked, {0: adapters[1]})[1]) == {0}
    other = turned(1)
    runner.prepare(other)
    assert runner.scores_keeping(asked, {0: other})[1] == {}


def test_what_is_kept_of_an_image_does_not_hold_its_batch(make: Make, adapters: list[Adapter], questions: Ask) -> None:
    first, *_ = keep(make(), questions([adapters[0]], 6), adapters[1])

    assert not first.from_image
    assert first.nbytes == first.x.untyped_storage().nbytes()


def test_the_programs_of_a_few_adapters_are_kept(
    make: Make, adapters: list[Adapter], same_cut: list[Adapter], questions: Ask
) -> None:
    runner, branches = make("openvino float32"), Branches()
    asked, sizes = questions([adapters[0]], 1), []
    assert len(same_cut) > KEPT_PROGRAMS
    for shadow in same_cut:
        branches.scores(keep(runner, asked, shadow))
        sizes.append(branches.nbytes)
    assert sizes[0] > 0
    assert sizes[KEPT_PROGRAMS - 1] == sizes[-1] == KEPT_PROGRAMS * sizes[0]


def test_a_runner_that_merges_in_place_keeps_nothing(backbone: Backbone, make: Make) -> None:
    assert isinstance(make(), KeepsTrunk)
    assert not isinstance(MergedRunner(backbone, ExactSwapper(backbone)), KeepsTrunk)
