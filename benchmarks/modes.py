"""Accuracy of the shipped adapters on their test parts, in every executor, precision and way of computing a batch.

A gain in speed must not cost accuracy, so each mode is compared with plain float32 torch and weights merged in place.
The mixed batches hold the layouts of all three adapters at once, as on a server.

    python benchmarks/modes.py [--data ../shared/data] [--threads 1] [--results]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from shared import machine, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.data.dataset import read_folder, read_pixels
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor, Joining
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.runner import Runner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.training.evaluate import reproduce_split

ZOO = Path(__file__).parent.parent / "adapters" / "zoo"
FOLDERS = {"malaria": "malaria-nih", "smoking": "smoking", "histology": "histology-lc25000-lung"}
BATCH = 8
COLD = ("merged", "mixed")
GOAL = 0.003


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


@dataclass(frozen=True)
class Exam:
    """An adapter, its test images after its own preprocessing, and their true labels."""

    adapter: Adapter
    twin: Adapter  # the same adapter under another digest, so a batch has two adapters to mix
    images: list[Tensor]
    truth: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--executors", nargs="+", default=["eager", "openvino"])
    results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lensmount_adapters").setLevel(logging.ERROR)
    print(results.described())
    backbone = load_backbone()
    exams = [exam(name, backbone, options.data / folder) for name, folder in FOLDERS.items()]
    plain = MergedRunner(backbone, ExactSwapper(backbone))
    right = [scores_of(plain, one) for one in exams]
    plain.close()
    rows = [row("plain float32", one, scores, scores) for one, scores in zip(exams, right, strict=True)]
    for name, precision in itertools.product(options.executors, ("float32", "bfloat16")):
        try:
            executor = choose_executor(name, precision, "cpu", options.threads, None)
        except ExecutorUnavailable as error:
            print(f"left out: {error}")
            continue
        for mode in ("hot", *COLD, *(("whole",) if isinstance(executor, Joining) else ())):
            runner = prepared(backbone, executor, exams, mode)
            for one, expected in zip(exams, right, strict=True):
                scores = scores_alone(runner, one) if mode == "whole" else scores_of(runner, one)
                rows.append(row(f"{name} {precision} {mode}", one, scores, expected))
            runner.close()
    worst = max(abs(r["difference"]) for r in rows)
    print("| mode | adapter | balanced accuracy | vs float32, points | answers changed | largest change of a score |")
    print("|---|---|---:|---:|---:|---:|")
    for r in rows:
        print(
            f"| {r['mode']} | {r['adapter']} | {r['accuracy']:.4f} | {100 * r['difference']:+.2f} | {r['flips']} "
            f"| {r['scores']:.4f} |"
        )
    print(f"largest change of balanced accuracy: {100 * worst:.2f} points (goal: at most {100 * GOAL:.1f})")
    if options.results is not None:
        kept = [
            results.Row.of(f"{r['adapter']}, {r['mode']}: balanced accuracy vs float32", [100 * r["difference"]],
                           "points", "within 0.3")
            for r in rows
        ]  # fmt: skip
        results.write("modes", kept, options.results)


def exam(name: str, backbone: Backbone, data: Path) -> Exam:
    adapter = admit((ZOO / f"{name}.safetensors").read_bytes(), backbone)
    record = adapter.manifest.training["split"]
    folder = read_folder(data, record.get("group_regex"), classes=adapter.manifest.labels)
    samples = reproduce_split(adapter.manifest, folder, "test")
    rule = adapter.manifest.preprocessing
    images: list[Tensor] = []
    for sample in samples:
        images += normalise(read_pixels(folder, [sample], rule), rule)
    twin = replace(adapter, digest=f"twin of {adapter.digest}")
    return Exam(adapter, twin, images, torch.tensor([sample.label for sample in samples]))


class GivenCosts(CostBook):
    """Lines that fix the way in which a batch of two adapters is computed; what is not given is measured."""

    def __init__(self, **given: LinearCost) -> None:
        super().__init__()
        self._given = given

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        way = name.rpartition(": ")[2].split()[0]  # "hot", "merged" or "mixed"
        return self._given[way] if way in self._given else super().line(name, measure)


def prepared(backbone: Backbone, executor: Executor, exams: Sequence[Exam], mode: str) -> SegmentRunner:
    """A runner that computes batches in one way only, with every program made."""
    free, dear = LinearCost(0.0, 0.0), LinearCost(1e9, 1e9)
    runner = SegmentRunner(
        backbone,
        executor,
        max_batch=BATCH,
        hot_bytes=0 if mode in COLD else 2**33,
        book=GivenCosts(hot=dear, merged=dear, mixed=free) if mode == "mixed" else GivenCosts(mixed=dear),
        shortcuts=("end-to-end",) if mode == "whole" else (),
    )
    for one in exams:
        runner.prefetch(one.adapter)
        runner.prefetch(one.twin)
    runner.settle()
    runner.settle()
    return runner


def scores_of(runner: Runner, one: Exam) -> Tensor:
    found: list[Tensor] = []
    for start in range(0, len(one.images), BATCH):
        images = one.images[start : start + BATCH]
        asked = [Question(one.adapter, image) for image in images] + [Question(one.twin, images[0])]
        found += runner.scores(asked).scores[: len(images)]
    return torch.stack(found)


def scores_alone(runner: SegmentRunner, one: Exam) -> Tensor:
    """Scores by the end-to-end program, which an adapter gets once it fills batches on its own."""
    asked = [Question(one.adapter, image) for image in one.images]
    batches = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
    while runner.scores(batches[0]).modes != {"whole": BATCH}:
        runner.settle()
    return torch.stack([score for batch in batches for score in runner.scores(batch).scores])


def row(mode: str, one: Exam, scores: Tensor, expected: Tensor) -> dict[str, Any]:
    labels = one.adapter.manifest.labels
    accuracy = measure(one.truth, scores, labels).balanced_accuracy
    return {
        "mode": mode,
        "adapter": one.adapter.manifest.name,
        "accuracy": accuracy,
        "difference": accuracy - measure(one.truth, expected, labels).balanced_accuracy,
        "flips": int((scores.argmax(1) != expected.argmax(1)).sum()),
        "scores": float((scores - expected).abs().max()),
    }


if __name__ == "__main__":
    main()
