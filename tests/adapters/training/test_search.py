"""The choice of method, rank and targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.search import SearchCandidate, Trial, best_trial, candidates, file_bytes, search


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        tmp_path, "cells", tmp_path / "cells.safetensors", backbone="mobilenetv3_small_050", auto=True
    )


def trial(size_bytes: int, loss: float) -> Trial:
    return Trial(SearchCandidate("lora", 8), size_bytes, loss, 0.9, 1.0)


def test_the_smallest_file_with_nearly_the_lowest_loss_wins() -> None:
    chosen = best_trial([trial(500, 0.100), trial(300, 0.101), trial(100, 0.2)])

    assert chosen.size_bytes == 300


def test_every_candidate_is_tried_for_a_quarter_of_the_epochs(config: TrainingConfig, backbone: Backbone) -> None:
    tried: list[TrainingConfig] = []

    def measure(short: TrainingConfig) -> tuple[float, float]:
        tried.append(short)
        return (0.1, 0.99) if short.method == "lora+norm" else (0.5, 0.8)

    chosen, trials = search(config, backbone, 2, 20, measure)

    assert chosen.method == "lora+norm"
    assert not chosen.auto
    assert {short.epochs for short in tried} == {5}
    assert len(trials) == len(tried) == len(candidates(config, backbone))
    assert {"head", "lora", "norm", "bias", "lora+norm"} <= {short.method for short in tried}


def test_candidates_without_a_layer_to_train_are_left_out(config: TrainingConfig, backbone: Backbone) -> None:
    methods = {candidate.method for candidate in candidates(replace(config, targets=r"^conv_head$"), backbone)}

    assert {"head", "lora"} <= methods
    assert "norm" not in methods


def test_the_time_limit_ends_the_search_after_at_least_one_trial(config: TrainingConfig, backbone: Backbone) -> None:
    now = [0.0]

    def measure(_: TrainingConfig) -> tuple[float, float]:
        now[0] += 10
        return 0.5, 0.8

    _, one = search(replace(config, max_seconds=5), backbone, 2, 20, measure, lambda: now[0])
    _, three = search(replace(config, max_seconds=25), backbone, 2, 20, measure, lambda: now[0])

    assert (len(one), len(three)) == (1, 3)


def test_candidates_with_too_large_files_are_left_out(config: TrainingConfig, backbone: Backbone) -> None:
    head = file_bytes(SearchCandidate("head", 1), config, backbone, 2)

    chosen, trials = search(replace(config, max_file_bytes=head), backbone, 2, 20, lambda _: (0.5, 0.8))

    assert chosen.method == "head"
    assert all(trial.size_bytes <= head for trial in trials)


def test_a_size_limit_below_every_candidate_is_refused(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match="max-file-bytes"):
        search(replace(config, max_file_bytes=10), backbone, 2, 20, lambda _: (0.5, 0.8))


def test_the_estimated_size_of_a_file_grows_with_the_rank(backbone: Backbone, config: TrainingConfig) -> None:
    rank_4, rank_8 = (file_bytes(SearchCandidate("lora", rank), config, backbone, 2) for rank in (4, 8))

    assert file_bytes(SearchCandidate("head", 1), config, backbone, 2) < rank_4 < rank_8
