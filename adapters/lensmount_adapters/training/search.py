"""Choose method, rank and targets for one task: a few short trainings, compared on the validation part.

The candidates run in the order in which they pay most often, for a quarter of the epochs each, until the time budget is
spent; those whose file would be too large are left out. The smallest file whose validation loss is within 2 % of the
lowest wins: a rank that brings nothing should not be carried around.
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

NEARLY = 1.02  # of the lowest validation loss
FILE_OVERHEAD = 16_384  # bytes of header and manifest, about
SHARE_OF_EPOCHS = 4
MIN_EPOCHS = 3


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """One way to adapt: `targets` None is the backbone's preset."""

    method: str
    rank: int
    targets: str | None = None

    def of(self, config: TrainingConfig) -> TrainingConfig:
        return replace(config, method=self.method, rank=self.rank, targets=self.targets, auto=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and what its short training came to."""

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
"""Train a config; returns the last validation loss and balanced accuracy."""


def search(
    config: TrainingConfig,
    backbone: Backbone,
    classes: int,
    epochs: int,
    measure: Measure,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TrainingConfig, tuple[Trial, ...]]:
    """The config with the chosen method, rank and targets, and every trial.

    `epochs` is the length of the full run. At least one trial is made, however small `config.max_seconds`. Raises
    TrainingError where no candidate fits into `config.max_file_bytes`.
    """
    started = clock()
    trials: list[Trial] = []
    fitting = _fitting(config, backbone, classes)
    for candidate, size_bytes in fitting:
        if trials and config.max_seconds is not None and clock() - started > config.max_seconds:
            break
        before = clock()
        short = replace(candidate.of(config), epochs=max(MIN_EPOCHS, epochs // SHARE_OF_EPOCHS), resume=False)
        loss, accuracy = measure(short)
        trials.append(Trial(candidate, size_bytes, loss, accuracy, clock() - before))
    return best_trial(trials).candidate.of(config), tuple(trials)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The smallest file whose validation loss is nearly the lowest."""
    lowest = min(trial.validation_loss for trial in trials)
    near = [trial for trial in trials if trial.validation_loss <= NEARLY * lowest]
    return min(near, key=lambda trial: (trial.size_bytes, trial.validation_loss))


def candidates(config: TrainingConfig, backbone: Backbone) -> list[SearchCandidate]:
    """What is tried, in order: the preset, then smaller and larger ones, then every kind of delta."""
    late = _late_half(config, backbone)
    found = [
        SearchCandidate("lora", 8, config.targets),
        SearchCandidate("head", 1, config.targets),
        SearchCandidate("lora", 4, late),
        SearchCandidate("lora+norm", 8, config.targets),
        SearchCandidate("lora", 16, config.targets),
        SearchCandidate("norm", 1, config.targets),
        SearchCandidate("lora-tucker", 8, config.targets),
        SearchCandidate("bias", 1, config.targets),
    ]
    has_kernels = any(max(t.shape[2:], default=1) > 1 for t in _selected(found[0], backbone))
    return [one for one in found if (one.method != "lora-tucker" or has_kernels) and _matches(one, backbone)]


def _fitting(config: TrainingConfig, backbone: Backbone, classes: int) -> list[tuple[SearchCandidate, int]]:
    sized = [(one, file_bytes(one, config, backbone, classes)) for one in candidates(config, backbone)]
    fitting = [(one, size) for one, size in sized if config.max_file_bytes is None or size <= config.max_file_bytes]
    if not fitting:
        smallest = min(size for _, size in sized)
        raise TrainingError(
            f"found a file budget of {config.max_file_bytes:,} bytes, expected at least {smallest:,} for the smallest "
            "adapter. Fix: a larger --max-file-bytes"
        )
    return fitting


def file_bytes(candidate: SearchCandidate, config: TrainingConfig, backbone: Backbone, classes: int) -> int:
    """About how large the candidate's file would be."""
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


def _matches(candidate: SearchCandidate, backbone: Backbone) -> bool:
    """Whether there is anything to train: an expression for convolutions may match no norm."""
    try:
        select_targets(backbone.name, backbone.targets, candidate.method, candidate.targets)
    except TrainingError:
        return False
    return True


def _selected(candidate: SearchCandidate, backbone: Backbone) -> tuple[Any, ...]:
    return select_targets(backbone.name, backbone.targets, candidate.method, candidate.targets).low_rank


def _late_half(config: TrainingConfig, backbone: Backbone) -> str:
    """The second half of the preset's layers, as an expression."""
    layers = [target.module for target in _selected(SearchCandidate("lora", 8, config.targets), backbone)]
    return "^(" + "|".join(layer.replace(".", r"\.") for layer in layers[len(layers) // 2 :]) + ")$"
