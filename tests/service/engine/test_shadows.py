"""A shadow is computed after the answer, by a thread of its own; whatever it does, nobody else notices."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.service.engine.planted_shadows import PATIENCE_S, Gate, Told
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.runners.kept_trunk import Branches, Kept
from lensmount_adapters.runners.runner import BatchScores
from lensmount_service.engine.shadows import (
    MOST_BYTES,
    MOST_IMAGES,
    MOST_LEFT_BEHIND,
    TOGETHER,
    Shadow,
    ShadowResult,
    Shadows,
)

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, Until

STABLE = torch.tensor([0.25, 0.75])


class Planted(Branches):
    """Answers with [0.5, 0.5], after calling `fault` with the digest of what it computes."""

    def __init__(self, fault: Callable[[str], object]) -> None:
        super().__init__()
        self._fault = fault
        self.sizes: list[int] = []

    def scores(self, kept: Sequence[Kept]) -> BatchScores:
        self.sizes.append(len(kept))
        found = self._fault(kept[0].adapter.digest)
        scores = found if isinstance(found, Tensor) else torch.tensor([0.5, 0.5])
        return BatchScores([scores] * len(kept))


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
def open_shadows() -> Iterator[Callable[..., Shadows]]:
    """`open_shadows(fault, busy=..., give_up_s=...)`; closed after the test."""
    opened: list[Shadows] = []

    def make(
        fault: Callable[[str], object] = lambda digest: None,
        busy: Callable[[], bool] = lambda: False,
        give_up_s: float = PATIENCE_S,
    ) -> Shadows:
        opened.append(Shadows(lambda: Planted(fault), busy, give_up_s=give_up_s))
        return opened[-1]

    yield make
    for shadows in opened:
        shadows.close()
        shadows.join()


def kept_for(told: Told, x: Tensor | None = None) -> Kept:
    split: Any = None  # which only real branches need
    return Kept(told.shadow.adapter, split, torch.zeros(1) if x is None else x, from_image=False)


def offer(shadows: Shadows, told: Told, x: Tensor | None = None) -> None:
    shadows.offer(told.shadow, kept_for(told, x), STABLE, None)


def test_who_asked_for_a_shadow_is_told_its_scores_beside_those_of_the_answer(
    cells: Adapter, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    told = Told(cells)
    offer(open_shadows(), told)
    until(lambda: told.results)

    (result,) = told.results
    assert result.scores is not None
    assert (result.stable.tolist(), result.scores.tolist(), result.why) == ([0.25, 0.75], [0.5, 0.5], None)
    assert result.shared_trunk
    assert result.seconds > 0


def test_a_shadow_that_raises_is_told_and_another_one_is_computed(
    cells: Adapter, tiles: Adapter, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    def fault(digest: str) -> None:
        if digest == cells.digest:
            raise RuntimeError("planted")

    shadows, failing, other = open_shadows(fault), Told(cells), Told(tiles)
    for _ in range(3):
        offer(shadows, failing)
        offer(shadows, other)
    until(lambda: len(failing.results) == len(other.results) == 3)
    assert (failing.whys, other.whys) == (["forward_failed"] * 3, [None] * 3)


def test_an_error_of_time_that_a_shadow_raises_is_a_failure_and_no_hang(
    cells: Adapter, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    def fault(digest: str) -> None:
        raise TimeoutError

    shadows, told = open_shadows(fault), Told(cells)
    for _ in range(2):
        offer(shadows, told)
    until(lambda: len(told.results) == 2)
    assert told.whys == ["forward_failed"] * 2


def test_scores_that_are_not_finite_are_not_compared(
    cells: Adapter, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    told = Told(cells)
    offer(open_shadows(lambda digest: torch.tensor([float("nan"), 1.0])), told)
    until(lambda: told.results)
    assert (told.whys, told.results[0].scores) == (["output_not_finite"], None)


def test_a_shadow_that_hangs_is_given_up_while_another_is_computed_and_taken_up_again_when_it_returns(
    cells: Adapter, tiles: Adapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    def fault(digest: str) -> None:
        if digest == cells.digest:
            gate(digest)

    shadows, hanging, other = open_shadows(fault, give_up_s=0.05), Told(cells), Told(tiles)
    offer(shadows, hanging)
    until(lambda: hanging.results)
    offer(shadows, hanging)  # is told at once
    offer(shadows, other)
    until(lambda: other.results)
    assert (hanging.whys, other.whys) == (["deadline_exceeded", "deadline_exceeded"], [None])

    gate.open.set()

    def computed() -> bool:
        offer(shadows, hanging)
        return None in hanging.whys

    until(computed)


def test_threads_that_hang_do_not_pile_up(
    backbone: Backbone, make_adapter: MakeAdapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    before = threading.active_count()
    shadows = open_shadows(gate, give_up_s=0.02)
    asked = [Told(admit(make_adapter(seed), backbone)) for seed in range(1, MOST_LEFT_BEHIND + 3)]
    for told in asked:
        offer(shadows, told)
        until(lambda told=told: told.results)  # type: ignore[misc]  # mypy knows no type of a default of a lambda
    whys = [told.whys for told in asked]
    assert whys == [["deadline_exceeded"]] * MOST_LEFT_BEHIND + [["shed"]] * 2
    assert threading.active_count() <= before + 1 + MOST_LEFT_BEHIND


def test_images_are_shed_while_the_queue_is_full_and_computed_together_afterwards(
    cells: Adapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    shadows, told = open_shadows(gate), Told(cells)
    offer(shadows, told)
    gate.entered.wait(PATIENCE_S)
    for _ in range(MOST_IMAGES + 5):
        offer(shadows, told)
    assert told.whys == ["shed"] * 5
    assert shadows.waiting == MOST_IMAGES
    gate.open.set()
    until(lambda: len(told.results) == MOST_IMAGES + 6)
    assert told.whys.count(None) == MOST_IMAGES + 1


def test_the_bytes_that_wait_are_bounded_and_released(
    cells: Adapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    shadows, told = open_shadows(gate), Told(cells)
    offer(shadows, told)
    gate.entered.wait(PATIENCE_S)
    large = [torch.empty(MOST_BYTES // 8) for _ in range(3)]  # float32: half of the room each
    alive = [weakref.ref(x) for x in large]
    for x in large:
        offer(shadows, told, x)
    assert (told.whys, shadows.nbytes) == (["shed"], MOST_BYTES)
    del large, x
    gate.open.set()
    until(lambda: len(told.results) == 4)
    until(lambda: gc.collect() >= 0 and all(ref() is None for ref in alive))
    assert shadows.nbytes == 0


def test_nothing_is_computed_while_the_engine_is_busy_neither_what_comes_nor_what_waits(
    cells: Adapter, tiles: Adapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    busy = threading.Event()
    shadows, first, told = open_shadows(gate, busy.is_set), Told(cells), Told(tiles)
    offer(shadows, first)
    gate.entered.wait(PATIENCE_S)
    for _ in range(TOGETHER + 1):
        offer(shadows, told)
    busy.set()
    offer(shadows, told)
    assert told.whys == ["shed"]
    gate.open.set()
    until(lambda: len(told.results) == TOGETHER + 2)
    assert (first.whys, set(told.whys)) == ([None], {"shed"})


def test_whoever_is_told_may_raise(cells: Adapter, open_shadows: Callable[..., Shadows], until: Until) -> None:
    def raises(result: ShadowResult) -> None:
        raise ValueError("planted")

    shadows, told = open_shadows(), Told(cells)
    shadows.offer(Shadow(cells, raises), None, STABLE, None)
    shadows.offer(Shadow(cells, raises), kept_for(told), STABLE, None)
    offer(shadows, told)
    until(lambda: told.results)
    assert told.whys == [None]


def test_closing_sheds_what_waits_and_does_not_wait_for_a_shadow_that_hangs(
    cells: Adapter, tiles: Adapter, gate: Gate, open_shadows: Callable[..., Shadows], until: Until
) -> None:
    shadows, hanging, told = open_shadows(gate), Told(cells), Told(tiles)
    offer(shadows, hanging)
    gate.entered.wait(PATIENCE_S)
    offer(shadows, told)
    shadows.close()
    shadows.join()
    assert not gate.open.is_set()
    assert shadows.is_computing
    offer(shadows, told)
    assert (hanging.whys, told.whys, shadows.waiting) == ([], ["shed", "shed"], 0)
    gate.open.set()
    until(lambda: not shadows.is_computing)
