"""The merged runner mounts one adapter after the other and leaves the backbone as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone, ExactSwapper, load_backbone
from lensmount_adapters.runners.merged import MergedRunner


@pytest.fixture
def own() -> Backbone:
    """A backbone that no other test writes to."""
    return load_backbone("resnet10t", "random:0")


@pytest.fixture
def runner(own: Backbone) -> MergedRunner:
    return MergedRunner(own, ExactSwapper(own))


def test_every_item_gets_the_scores_of_its_own_adapter_in_its_place(
    runner: MergedRunner, adapters: list[Adapter], questions: Callable[..., Any], check: Callable[..., None]
) -> None:
    asked = questions(adapters[:3], 7)

    outcome = runner.scores(asked)

    check(asked, outcome.scores)
    assert (outcome.switches, outcome.modes) == (3, {"merged": 7})
    assert outcome.swap_s > 0 < outcome.forward_s


def test_an_adapter_that_is_mounted_already_costs_no_switch(
    runner: MergedRunner, adapters: list[Adapter], questions: Callable[..., Any]
) -> None:
    runner.scores(questions(adapters[:1], 1))

    outcome = runner.scores(questions(adapters[:1], 2))

    assert (outcome.switches, outcome.swap_s) == (0, 0.0)
    assert runner.tier(adapters[0].digest) == "merged"
    assert runner.tier(adapters[1].digest) is None


def test_at_rest_the_weights_are_the_base_s(
    runner: MergedRunner, own: Backbone, adapters: list[Adapter], questions: Callable[..., Any],
    digest_of_state: Callable[[Backbone], str],
) -> None:  # fmt: skip
    before = digest_of_state(own)
    runner.scores(questions(adapters[:1], 1))
    assert digest_of_state(own) != before

    runner.rest()

    assert digest_of_state(own) == before
    assert runner.changed() == []
    runner.close()


def test_it_needs_no_preparation_and_keeps_nothing_per_adapter(runner: MergedRunner, adapters: list[Adapter]) -> None:
    for adapter in adapters:
        assert runner.ready(adapter)
    assert runner.nbytes() == {}
    assert runner.describe() == {
        "mode": "merged in place",
        "reason": "asked for",
        "executor": "eager",
        "precision": "float32",
    }
