"""The maps of a runner are those of timm's own network with the adapter mounted, in every executor and any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.graph.pooled_maps import find_maps
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners import map_programs
from lensmount_adapters.runners.map_programs import MapsOf
from lensmount_adapters.runners.runner import GivesMaps
from lensmount_adapters.runners.segment_runner import SegmentRunner

Make = Callable[..., SegmentRunner]
Ask = Callable[..., list[Any]]
BOUNDS = {"eager float32": 1e-4, "openvino float32": 1e-4, "openvino bfloat16": 0.05}
EXECUTORS = list(BOUNDS)


@pytest.fixture
def make(backbone: Backbone, executor_of: Callable[..., Executor]) -> Iterator[Make]:
    runners: list[SegmentRunner] = []

    def make(name: str = "eager float32", own: Backbone | None = None, **options: Any) -> SegmentRunner:
        runners.append(SegmentRunner(own or backbone, executor_of(name), max_batch=8, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def maps_of(backbone: Backbone, adapter: Adapter, image: Tensor, turns: tuple[int, ...] = (0,)) -> Tensor:
    """The last maps [orientations, features, rows, columns], by timm's `forward_features`."""
    twin = backbone.twin()
    ExactSwapper(twin).mount(adapter)
    with torch.inference_mode():
        images = torch.stack([orient(image, turn) for turn in turns])
        maps: Tensor = twin.module.forward_features(images)  # type: ignore[operator]  # timm's method
    return maps


def check(found: Tensor, expected: Tensor, bound: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype is torch.float32
    assert float((found - expected).abs().max()) <= bound * float(expected.abs().max())


@pytest.mark.parametrize("name", EXECUTORS)
@pytest.mark.parametrize("hot_bytes", [2**29, 0])
def test_maps_and_scores_of_a_batch_are_those_of_each_image_alone(
    name: str, hot_bytes: int, make: Make, backbone: Backbone, adapters: list[Adapter], questions: Ask
) -> None:
    runner = make(name, hot_bytes=hot_bytes)
    chosen = [adapters[number] for number in (0, 1, 4, 5)]  # three cuts
    assert isinstance(runner, GivesMaps)
    assert all(runner.prepare_maps(adapter) for adapter in chosen)
    asked = questions(chosen, 7)

    outcome = runner.maps(asked)

    assert outcome.modes == {"maps": 7}
    for each, scores, maps in zip(asked, outcome.scores, outcome.maps, strict=True):
        expected = maps_of(backbone, each.adapter, each.image)
        check(maps, expected, BOUNDS[name])
        check(scores, each.adapter.scores(expected.mean((2, 3)))[0], BOUNDS[name])
    assert runner.changed() == []


def test_maps_of_several_orientations_come_in_their_order(
    make: Make, backbone: Backbone, draw_adapter: Callable[..., Any], questions: Ask
) -> None:
    parts = draw_adapter(backbone, seed=61, modules=r"layer4.*")
    parts.manifest["preprocessing"]["orientations"] = 4
    adapter = admit(parts.dump(), backbone)
    runner = make()
    assert runner.prepare_maps(adapter)
    asked = questions([adapter], 3)

    for each, maps in zip(asked, runner.maps(asked).maps, strict=True):
        check(maps, maps_of(backbone, adapter, each.image, (0, 1, 2, 3)), 1e-4)


def test_an_adapter_without_a_layer_before_the_last_map_gets_no_program(make: Make, adapters: list[Adapter]) -> None:
    assert adapters[6].manifest.method == "head"
    assert not make().prepare_maps(adapters[6])


def test_a_network_that_does_not_average_a_map_is_refused(make: Make, draw_adapter: Callable[..., Any]) -> None:
    vit = load_backbone("test_vit", "random:0")
    adapter = admit(draw_adapter(vit, modules=r"blocks\.1.*").dump(), vit)

    with pytest.raises(ExplainError, match="Fix: the method occlusion"):
        make(own=vit).prepare_maps(adapter)


def test_a_network_is_searched_for_maps_once_however_often_it_is_asked(
    make: Make, draw_adapter: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    vit = load_backbone("test_vit", "random:0")
    adapter, runner = admit(draw_adapter(vit, modules=r"blocks\.1.*").dump(), vit), make(own=vit)
    searches: list[object] = []
    monkeypatch.setattr(map_programs, "find_maps", lambda *network: searches.append(network) or find_maps(*network))

    for _ in range(3):
        with pytest.raises(ExplainError, match="Fix: the method occlusion"):
            runner.prepare_maps(adapter)
    assert len(searches) == 1


def test_a_program_that_was_evicted_is_made_again_and_one_that_was_forgotten_is_gone(
    make: Make, backbone: Backbone, adapters: list[Adapter], questions: Ask
) -> None:
    runner = make()
    assert runner.prepare_maps(adapters[0])
    kept = MapsOf(adapters[0].digest)
    assert kept in runner.programs.cache
    runner.programs.cache.drop(kept)
    asked = questions(adapters[:1], 4)

    for _ in range(2):
        check(runner.maps(asked).maps[0], maps_of(backbone, adapters[0], asked[0].image), 1e-4)
        runner.settle()
    assert kept in runner.programs.cache

    runner.forget(adapters[0].digest)
    assert kept not in runner.programs.cache


@pytest.mark.parametrize("known", [True, False], ids=["with statistics", "without statistics"])
def test_maps_of_one_image_after_another_come_from_one_program_with_the_same_values(
    known: bool,
    make: Make,
    backbone: Backbone,
    with_statistics: Callable[..., Adapter],
    draw_adapter: Callable[..., Any],
    questions: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = make("openvino float32")
    plain_one = admit(draw_adapter(backbone, seed=71, modules=r"layer4.*").dump(), backbone)
    adapter = with_statistics(seed=71) if known else plain_one
    assert runner.prepare_maps(adapter)
    joined = MapsOf(adapter.digest, from_image=True)

    for asked in questions([adapter], 8):
        assert runner.maps([asked]).modes == {"maps": 1}
    runner.settle()
    assert joined in runner.programs.cache
    singly, together = questions([adapter], 3), questions([adapter], 2)
    expected_pooled = runner.scores([*singly, *together]).pooled
    two = runner.maps(together)
    monkeypatch.setattr(runner.splits[0], "activations", None)  # from here on nothing runs the trunk by itself
    ones = [runner.maps([each]) for each in singly]

    found = [(one.scores[0], one.maps[0], one.pooled[0]) for one in ones]
    found += zip(two.scores, two.maps, two.pooled, strict=True)
    for each, (scores, maps, pooled), plain in zip([*singly, *together], found, expected_pooled, strict=True):
        expected = maps_of(backbone, adapter, each.image)
        check(maps, expected, 1e-4)
        check(scores, adapter.scores(expected.mean((2, 3)))[0], 1e-4)
        assert (pooled is not None) == (plain is not None) == known
        if pooled is not None and plain is not None:
            check(pooled, plain, 1e-4)

    runner.forget(adapter.digest)
    assert joined not in runner.programs.cache
