from __future__ import annotations

import time

import pytest

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.errors import BackboneError, TrainingError
from lensmount_adapters.recipe.recipe import load_recipe
from lensmount_adapters.suggestion import did_you_mean


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("malara", " Did you mean 'malaria'?"),
        ("histolgy", " Did you mean 'histology'?"),
        ("smokin", " Did you mean 'smoking'?"),
        ("xyz", ""),
        ("", ""),
        ("m" * 100_000, ""),
    ],
)
def test_a_mistyped_name_gets_the_one_that_is_like_it(name: str, meant: str) -> None:
    assert did_you_mean(name, ["histology", "malaria", "smoking"]) == meant


def test_a_million_names_cost_as_much_as_a_thousand() -> None:
    started = time.process_time()
    did_you_mean("task-x", (f"task-{number}" for number in range(10**6)))
    assert time.process_time() - started < 1.0


def test_a_mistyped_backbone_or_recipe_says_what_was_meant() -> None:
    with pytest.raises(BackboneError, match=r"Did you mean 'resnet34'\?"):
        load_backbone("resnet34x", "random:0")
    with pytest.raises(BackboneError, match=r"Did you mean 'clip'\?"):
        load_backbone("clipp", "random:0")
    with pytest.raises(TrainingError, match=r"Did you mean 'malaria-vgg16'\? Fix: see `lensmount recipe --list`"):
        load_recipe("malaria-vgg")
