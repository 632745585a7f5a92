"""Choose method, rank and targets for one task by a few short training runs, compared on the validation part.

The candidates run for a quarter of the epochs each, the most often successful ones first, until the time limit is
reached. Candidates whose file would be too large are left out. The smallest file whose validation loss is within 2 % of
the lowest wins: a higher rank that improves nothing is not worth its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig

LOSS_TOLERANCE = 1.02  # times the lowest validation loss
FILE_OVERHEAD = 16_384  # bytes of header and manifest, approximately
EPOCH_DIVISOR = 4  # a trial runs for a quarter of the epochs
MIN_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """One way to adapt. `targets` None is the backbone's preset."""

    method: str
    rank: int
    targets: str | None = None

    def applied_to(self, config: TrainingConfig) -> TrainingConfig:
        return replace(config, method=self.method, rank=self.rank, targets=self.targets, auto=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and the outcome of its short training run."""

    candidate: SearchCandidate
    size_bytes: int
    validation_loss: float
    validation_balanced_accuracy: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self.candidate) | {
            "size_bytes": self.size_bytes,
            "validation_loss": round(self.validation_loss, 4),
            "validation_balanced_accuracy": round(self.validation_balanced_accuracy, 4),
            "seconds": round(self.seconds, 1),
        }


Measure = Callable[[TrainingConfig], tuple[float, float]]
"""Trains a config and returns the last validation loss and balanced accuracy."""


def search(
    config: TrainingConfig,
    backbone: Backbone,
    classes: int,
    epochs: int,
    measure: Measure,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TrainingConfig, tuple[Trial, ...]]:
    """Try the candidates; returns the config with the chosen method, rank and targets, and all trials.

    `epochs` is the length of the full run. At least one trial runs, however small `config.max_seconds` is. Raises
    TrainingError if the file of every candidate would be larger than `config.max_file_bytes`.
    """
    started = clock()
    trials: list[Trial] = []
    fitting = _fitting(config, backbone, classes)
    for candidate, size_bytes in fitting:
        if trials and config.max_seconds is not None and clock() - started > config.max_seconds:
            break
        before = clock()
        trial_config = replace(
            candidate.applied_to(config), epochs=max(MIN_EPOCHS, epochs // EPOCH_DIVISOR), resume=False
        )
        loss, accuracy = measure(trial_config)
        trials.append(Trial(candidate, size_bytes, loss, accuracy, clock() - before))
    return best_trial(trials).candidate.applied_to(config), tuple(trials)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial with the smallest file among those within the tolerance of the lowest validation loss."""
    lowest = min(trial.validation_loss for trial in trials)
    near = [trial for trial in trials if trial.validation_loss <= LOSS_TOLERANCE * lowest]
    return min(near, key=lambda trial: (trial.size_bytes, trial.validation_loss))


def candidates(config: TrainingConfig, backbone: Backbone) -> list[SearchCandidate]:
    """The candidates in order: the preset, then smaller and larger ones, then every other kind of delta."""
    late = _late_half(config, backbone)
    every = [
        SearchCandidate("lora", 8, config.targets),
        SearchCandidate("head", 1, config.targets),
        SearchCandidate("lora", 4, late),
        SearchCandidate("lora+norm", 8, config.targets),
        SearchCandidate("lora", 16, config.targets),
        SearchCandidate("norm", 1, config.targets),
        SearchCandidate("lora-tucker", 8, config.targets),
        SearchCandidate("bias", 1, config.targets),
    ]
    has_kernels = any(max(t.shape[2:], default=1) > 1 for t in _low_rank_targets(every[0], backbone))
    return [
        candidate
        for candidate in every
        if (candidate.method != "lora-tucker" or has_kernels) and _trains_anything(candidate, backbone)
    ]


def _fitting(config: TrainingConfig, backbone: Backbone, classes: int) -> list[tuple[SearchCandidate, int]]:
    limit = config.max_file_bytes
    sized = [(each, file_bytes(each, config, backbone, classes)) for each in candidates(config, backbone)]
    fitting = [(candidate, size) for candidate, size in sized if limit is None or size <= limit]
    if not fitting:
        smallest = min(size for _, size in sized)
        raise TrainingError(
            f"found a limit of {limit:,} bytes for the adapter file, expected at least {smallest:,} for the smallest "
            "adapter. Fix: use a larger --max-file-bytes"
        )
    return fitting


def file_bytes(candidate: SearchCandidate, config: TrainingConfig, backbone: Backbone, classes: int) -> int:
    """Estimate the size of the candidate's adapter file."""
    selection = select_targets(backbone.name, backbone.targets, candidate.method, candidate.targets)
    numbers = classes * (backbone.feature_dim + 1)
    for target in selection.low_rank:
        out_features, *rest = target.shape
        inner = 1
        for side in rest:
            inner *= side
        numbers += min(candidate.rank, out_features, inner) * (out_features + inner)
    for target in selection.additive:
        numbers += target.shape[0]
    return numbers * FILE_DTYPES[config.file_dtype].itemsize + FILE_OVERHEAD


def _trains_anything(candidate: SearchCandidate, backbone: Backbone) -> bool:
    """Whether the expression matches a layer of the method: one for convolutions may match no norm, for example."""
    try:
        select_targets(backbone.name, backbone.targets, candidate.method, candidate.targets)
    except TrainingError:
        return False
    return True


def _low_rank_targets(candidate: SearchCandidate, backbone: Backbone) -> tuple[Any, ...]:
    return select_targets(backbone.name, backbone.targets, candidate.method, candidate.targets).low_rank


def _late_half(config: TrainingConfig, backbone: Backbone) -> str:
    """The second half of the preset's layers, as an expression."""
    layers = [target.module for target in _low_rank_targets(SearchCandidate("lora", 8, config.targets), backbone)]
    return "^(" + "|".join(layer.replace(".", r"\.") for layer in layers[len(layers) // 2 :]) + ")$"
