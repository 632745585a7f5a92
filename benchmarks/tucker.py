"""Accuracy against size: LoRA as kxk+1x1 and in CP/Tucker form, at several ranks, on the same images and splits.

The adapted layers are block 5 of VGG16, three 3x3 convolutions of 512 to 512 channels, for which the two forms differ
most. `head` trains no convolution at all and gives the lower bound. VGG16 has no norm layers, so the learning rate has
a strong effect. Each method uses the rate that was best on validation among those tried at rank 4 (lora 3e-4, 1e-3;
lora-tucker 1e-3, 3e-3). Each run is one line of JSON in `--out`, so an interrupted benchmark resumes where it stopped.

    python benchmarks/tucker.py run --weights ../shared/weights/vgg16-imagenet-features.safetensors
    python benchmarks/tucker.py show        the tables of all finished runs
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import train

DEFAULT_OUT = Path(__file__).parent / "tucker.jsonl"
BACKBONE = "vgg16"
METHODS = ("lora", "lora-tucker")
RATES = {"head": 4e-3, "lora": 1e-3, "lora-tucker": 3e-3}
SETTINGS: dict[str, Any] = {
    "augment": "microscopy",
    "size": 64,
    "batch_size": 16,
    "cache_trunk": "on",
    "views": 2,
    "precision": "bfloat16",
}
TASKS: dict[str, dict[str, Any]] = {
    "malaria-nih": {
        "group_regex": r"^(.*?)_?[tT]hin",
        "validation_fraction": 0.2,
        "test_fraction": 0.3,
        "epochs": 10,
    },
    "histology-lc25000-lung": {
        "group_regex": r"^(.+_g\d+)_",
        "validation_fraction": 0.1,
        "test_fraction": 0.2,
        "shots": 60,
        "resize": "crop",
        "epochs": 8,
    },
}


@dataclass(frozen=True)
class Run:
    """The result of one training; `adapted` counts the trained parameters without the head's."""

    task: str
    method: str
    rank: int
    seed: int
    learning_rate: float
    validation_loss: float
    accuracy: float
    balanced_accuracy: float
    images: int
    parameters: int
    adapted: int
    file_bytes: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--weights", default="hub", help="weights of vgg16: a safetensors file, hub or random:SEED")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", choices=TASKS, action="append")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    if options.what == "run":
        print(machine.describe())
        run_all(options)
    show(load(options.out))


def run_all(options: argparse.Namespace) -> None:
    """Run seed by seed and method by method, so an interrupted benchmark has measured both tasks equally far."""
    done = {(run.task, run.method, run.rank, run.seed) for run in load(options.out)}
    backbone = load_backbone(BACKBONE, options.weights)
    contenders = [("head", 0), *((method, rank) for rank in options.ranks for method in METHODS)]
    for seed, (method, rank) in itertools.product(range(options.seeds), contenders):
        for task in options.task or TASKS:
            if (task, method, rank, seed) in done:
                continue
            run = measure(task, method, rank, seed, options, backbone)
            with options.out.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            print(f"{task} {method} {rank} seed {seed}: {run.seconds:.0f} s, {run.accuracy:.3f}", flush=True)


def measure(task: str, method: str, rank: int, seed: int, options: argparse.Namespace, backbone: Backbone) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            data=options.data / task,
            name="benchmark",
            out=Path(folder) / "benchmark.safetensors",
            backbone=BACKBONE,
            method=method,
            rank=max(1, rank),
            seed=seed,
            learning_rate=RATES[method],
            threads=options.threads,
            **(SETTINGS | TASKS[task]),
        )
        started = time.perf_counter()
        result = train(config, backbone=backbone)
    assert result.validation is not None
    assert result.test is not None
    record = result.record
    return Run(
        task, method, rank, seed, RATES[method], result.validation.log_loss,
        result.test.accuracy, result.test.balanced_accuracy, result.test.count,
        record["trainable_parameters"], record["trainable_parameters"] - record["head_parameters"],
        result.size_bytes, time.perf_counter() - started,
    )  # fmt: skip


def load(path: Path) -> list[Run]:
    if not path.exists():
        return []
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()]


def show(runs: list[Run]) -> None:
    for task, settings in TASKS.items():
        own = [run for run in runs if run.task == task]
        if not own:
            continue
        print(f"\n{task}: {own[0].images} test images, {settings['epochs']} epochs at {SETTINGS['size']} pixels\n")
        print("| method | rank | parameters of the deltas | file | accuracy, test: mean (min to max) | seeds |")
        print("|---|---:|---:|---:|---|---:|")
        for method, rank in sorted({(run.method, run.rank) for run in own}, key=lambda pair: (pair[1], pair[0])):
            row([run for run in own if (run.method, run.rank) == (method, rank)])


def row(runs: list[Run]) -> None:
    first, found = runs[0], [run.accuracy for run in runs]
    spread = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
    print(
        f"| {first.method} | {first.rank or ''} | {first.adapted:,} | {first.file_bytes / 1e3:,.0f} kB "
        f"| {statistics.mean(found):.3f}{spread} | {len(found)} |"
    )


if __name__ == "__main__":
    main()
