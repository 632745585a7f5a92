"""What telling unfamiliar images costs: median time of a prediction with statistics against one without, in turn.

The two adapters have the same weights; the file of one also holds statistics of the trunk's activations. A prediction
is the runner's batch, and for the one with statistics the percentile of each of its images. Three cases: one image,
16 images of one adapter, one image for 16 adapters. The goal is a ratio of at most 1.03.

    python benchmarks/trust_cost.py [--rounds 40] [--threads 1] [--executor auto] [--precision auto]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from shared import machine, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.graph.pooling import pooling_of, space_of
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.trust.distance import percentile_of
from lensmount_adapters.trust.familiarity import Pooled, fit_familiarity

ZOO = Path(__file__).parent.parent / "adapters" / "zoo"
GOAL = "at most 1.03"
WARM_UP = 40  # predictions until every program is made
IN_A_ROUND = 8


@dataclass(frozen=True, slots=True)
class Question:
    adapter: Adapter
    image: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of telling unfamiliar images.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(machine.describe())
    backbone = load_backbone("tf_efficientnet_lite0")
    rows = []
    with TemporaryDirectory() as cache:
        executor = choose_executor(options.executor, options.precision, "cpu", options.threads, Path(cache))
        print(f"{executor.name} {executor.dtype}")
        for what, adapters, images in (("one image", 1, 1), ("16 images", 1, 16), ("one image for 16 adapters", 16, 1)):
            ways = {
                way: _work(SegmentRunner(backbone, executor), _adapters(backbone, adapters, known=known), images)
                for way, known in (("with", True), ("without", False))
            }
            seconds = _in_turn(ways, options.rounds)
            rows += [results.Row.of(f"{what}, {way}", [1e3 * s for s in seconds[way]], "ms") for way in ways]
            rows.append(results.ratios(f"{what}: with / without", seconds["with"], seconds["without"], GOAL))
    results.show(rows)


def _work(runner: SegmentRunner, adapters: list[Adapter], images: int) -> Callable[[], object]:
    size = adapters[0].manifest.preprocessing.size
    drawn = torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(0))
    asked = [Question(adapter, image) for image in drawn for adapter in adapters]

    def work() -> list[float | None]:
        outcome = runner.scores(asked)
        vectors = [None if vector is None else vector.numpy() for vector in outcome.pooled]
        return [percentile_of(each.adapter.trust, v) for each, v in zip(asked, vectors, strict=True)]

    for _ in range(WARM_UP):
        found = work()
        runner.settle()
    known = adapters[0].trust is not None
    assert all((percentile is not None) is known for percentile in found)
    print(f"{len(asked)} answers, {'with' if known else 'without'}: {runner.scores(asked).modes}")
    return work


def _in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The median of some predictions, by way and round; the way that comes first changes from round to round."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in (*ways,) if turn % 2 else (*reversed(ways),):
            taken = []
            for _ in range(IN_A_ROUND):
                started = time.perf_counter()
                ways[way]()
                taken.append(time.perf_counter() - started)
            seconds[way].append(statistics.median(taken))
    return seconds


def _adapters(backbone: Backbone, count: int, *, known: bool) -> list[Adapter]:
    """The zoo's malaria adapter under several names, with or without statistics of drawn images."""
    file = parse_adapter((ZOO / "malaria.safetensors").read_bytes())
    halves = Segments(backbone.module).halves({f"{module}.weight" for module in file.manifest.modules})
    assert halves.trunk is not None
    activations = halves.trunk(torch.randn(120, 3, 64, 64))
    vectors = pooling_of(backbone, activations)(activations).double().detach().numpy()
    numbers = np.arange(120)
    fitted = fit_familiarity(Pooled(vectors, numbers, numbers % 2, numbers), 2, space_of(backbone, halves.at))
    update = {"trust": Trust(familiarity=fitted[0])} if known else {}
    tensors = dict(file.tensors) | (fitted[1].tensors() if known else {})
    return [
        admit(dump_adapter(file.manifest.model_copy(update={**update, "name": f"a{n}"}), tensors), backbone)
        for n in range(count)
    ]


if __name__ == "__main__":
    main()
