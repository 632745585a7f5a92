"""Which adapters of a batch are mixed, compared with trying every way."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest

from lensmount_adapters.runners.costs import (
    CostBook,
    Costs,
    Group,
    LinearCost,
    mixed_groups,
    seconds_of,
)


def seconds(costs: Costs, groups: list[Group], runs: list[list[int]]) -> float:
    """What a batch costs when the named groups are mixed and the others computed alone."""
    together = {index for run in runs for index in run}
    total = 0.0
    for index, group in enumerate(groups):
        if index in together:
            assert costs.mixed is not None
            total += costs.pack + costs.mixed.per_image * group.images
        else:
            total += costs.hot(group.images) if group.hot else costs.merge + costs.merged(group.images)
    return total + sum(costs.mixed.fixed for _ in runs) if costs.mixed else total


COSTS = Costs(
    hot=LinearCost(0.0005, 0.001),
    merged=LinearCost(0.002, 0.0015),
    merge=0.003,
    mixed=LinearCost(0.004, 0.002),
    pack=0.0002,
    slots=4,
)


def test_one_cold_adapter_is_merged_if_a_mixed_run_is_not_worth_its_fixed_part() -> None:
    dear = Costs(COSTS.hot, COSTS.merged, COSTS.merge, LinearCost(0.02, 0.002), COSTS.pack, COSTS.slots)

    assert mixed_groups(dear, [Group(1, hot=False, mixable=True)]) == []


def test_many_cold_adapters_with_one_image_each_are_mixed() -> None:
    runs = mixed_groups(COSTS, [Group(1, hot=False, mixable=True)] * 4)

    assert sorted(index for run in runs for index in run) == [0, 1, 2, 3]


def test_hot_adapters_are_computed_alone_if_that_is_cheaper() -> None:
    runs = mixed_groups(COSTS, [Group(1, hot=True, mixable=True)] * 3 + [Group(1, hot=False, mixable=True)] * 3)

    assert sorted(index for run in runs for index in run) == [3, 4, 5]


def test_adapters_that_cannot_be_mixed_are_computed_alone() -> None:
    assert mixed_groups(COSTS, [Group(1, hot=False, mixable=False)] * 16) == []


def test_without_a_mixed_program_nothing_is_mixed() -> None:
    costs = Costs(COSTS.hot, COSTS.merged, COSTS.merge, None, 0.0, 4)

    assert mixed_groups(costs, [Group(1, hot=False, mixable=True)] * 16) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_cheapest_of_all_if_one_run_has_room(seed: int) -> None:
    draw = random.Random(seed)
    costs = Costs(
        hot=LinearCost(draw.random(), draw.random()),
        merged=LinearCost(draw.random(), draw.random()),
        merge=draw.random(),
        mixed=LinearCost(2 * draw.random(), draw.random()),
        pack=draw.random() / 10,
        slots=8,
    )
    groups = [Group(draw.randint(1, 4), draw.random() < 0.4, draw.random() < 0.8) for _ in range(6)]
    mixable = [index for index, group in enumerate(groups) if group.mixable]
    ways = [
        [list(chosen)] if chosen else []
        for size in range(len(mixable) + 1)
        for chosen in itertools.combinations(mixable, size)
    ]

    best = min(seconds(costs, groups, way) for way in ways)

    assert seconds(costs, groups, mixed_groups(costs, groups)) == pytest.approx(best)


def test_a_run_holds_no_more_adapters_than_it_has_room_for() -> None:
    runs = mixed_groups(COSTS, [Group(1, hot=False, mixable=True)] * 11)

    assert all(len(run) <= 4 for run in runs)


def test_the_line_goes_through_both_points() -> None:
    line = LinearCost.through(one=0.003, many=0.018, n=16)

    assert line(1) == pytest.approx(0.003)
    assert line(16) == pytest.approx(0.018)


def test_a_line_never_promises_less_for_more() -> None:
    assert LinearCost.through(one=0.003, many=0.002, n=16) == LinearCost(0.003, 0.0)


def test_the_fastest_round_counts() -> None:
    calls: list[int] = []

    assert seconds_of(lambda: calls.append(1), rounds=3) >= 0
    assert len(calls) == 4


def test_the_time_of_a_call_that_returns_early_includes_the_wait_for_its_result() -> None:
    """As on a GPU: the call only launches, and `wait` returns once all that was launched is done."""
    ends_at: list[float] = []

    def launch() -> None:
        ends_at.append(time.perf_counter() + 0.02)

    def wait() -> None:
        time.sleep(max(0.0, ends_at[-1] - time.perf_counter()))

    assert seconds_of(launch, rounds=2) < 0.01
    assert seconds_of(launch, rounds=2, wait=wait) >= 0.02


def test_what_was_measured_is_kept_for_the_next_start(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure() -> LinearCost:
        measured.append(1)
        return LinearCost(0.001, 0.002)

    first = CostBook(tmp_path, "this machine").line("branch hot", measure)
    second = CostBook(tmp_path, "this machine").line("branch hot", measure)
    other = CostBook(tmp_path, "another machine").line("branch hot", measure)

    assert first == second == other == LinearCost(0.001, 0.002)
    assert len(measured) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '{"a": [1]}', '{"a": [-1, 0]}', '{"a": [NaN, 0]}'])
def test_a_damaged_book_is_measured_again(tmp_path: Path, content: str) -> None:
    CostBook(tmp_path, "m").line("a", lambda: LinearCost(0.001, 0.002))
    (file,) = tmp_path.iterdir()
    file.write_text(content)

    assert CostBook(tmp_path, "m").line("a", lambda: LinearCost(0.003, 0.004)) == LinearCost(0.003, 0.004)


def test_a_forgotten_book_is_measured_again(tmp_path: Path) -> None:
    book = CostBook(tmp_path, "m")
    book.line("a", lambda: LinearCost(1.0, 1.0))
    book.forget()

    assert book.line("a", lambda: LinearCost(2.0, 2.0)) == LinearCost(2.0, 2.0)
    assert CostBook(tmp_path, "m").lines == {"a": LinearCost(2.0, 2.0)}


def test_one_observation_moves_both_parts_of_a_line_but_not_far() -> None:
    moved = LinearCost(0.002, 0.001).towards(2, 0.006, 0.1)
    assert (moved.fixed, moved.per_image) == pytest.approx((0.0021, 0.00105))
    assert LinearCost(0.002, 0.001).towards(2, 60.0, 0.1)(2) == pytest.approx(0.0044)
    assert LinearCost(0.0, 0.0).towards(2, 60.0, 0.1) == LinearCost(0.0, 0.0)
