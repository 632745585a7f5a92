"""The tasks and contenders of training.py, and the result of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RACERS = ("ours", "ours, short", "peft")
METHODS = ("full", "head", "bias", "norm", "lora", "lora-tucker", "lora+norm")
SHORT = ", short"  # two thirds of the epochs, 3 views


@dataclass(frozen=True)
class Benchmark:
    """One set of images: its folder and the settings shared by all contenders."""

    folder: str
    settings: dict[str, Any] = field(default_factory=dict)


SLIDE, TILE = r"^(.*?)_?[tT]hin", r"^(.+_g\d+)_"
PARTS = {"validation_fraction": 0.1, "test_fraction": 0.2}

TASKS = {
    # small enough to run every contender
    "malaria": Benchmark(
        "malaria-nih",
        {"group_regex": SLIDE, "augment": "microscopy", "size": 160, "epochs": 12},
    ),
    "smoking": Benchmark("smoking", {"augment": "photo", "resize": "crop", "size": 224, "epochs": 8}),
    # recipes for accuracy: those of the zoo, and one for the grey cells
    "malaria-recipe": Benchmark(
        "malaria-nih",
        PARTS | {"group_regex": SLIDE, "augment": "microscopy", "size": 160, "epochs": 12},
    ),
    "smoking-recipe": Benchmark("smoking", PARTS | {"augment": "photo", "resize": "crop", "size": 288, "epochs": 8}),
    "histology-recipe": Benchmark(
        "histology-lc25000-lung",
        PARTS
        | {"group_regex": TILE, "augment": "tissue", "cutmix": 1.0}
        | {"resize": "crop", "size": 224, "epochs": 24, "learning_rate": 2e-3, "cache_trunk": "off"},
    ),
    "histology-quick": Benchmark(  # a third of the time
        "histology-lc25000-lung",
        PARTS | {"group_regex": TILE, "augment": "microscopy", "resize": "crop", "size": 224, "epochs": 10},
    ),
    "histology-shipped": Benchmark(  # the shipped adapter's own split, with seed 0
        "histology-lc25000-lung",
        {"validation_fraction": 0.05, "test_fraction": 0.15, "group_regex": TILE, "augment": "microscopy"}
        | {"resize": "crop", "size": 224, "epochs": 10},
    ),
    "gray50-recipe": Benchmark(
        "malaria-nih-gray50",
        PARTS | {"group_regex": SLIDE, "augment": "microscopy", "size": 160, "epochs": 6},
    ),
}


@dataclass
class Run:
    """The result of one training: wall time in seconds, balanced accuracies, sizes."""

    task: str
    contender: str
    seed: int
    seconds: float
    validation: float
    test: float
    parameters: int
    file_bytes: int
