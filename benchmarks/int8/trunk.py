"""A hot adapter with an int8 trunk, compared with OpenVINO's whole network in each precision that this processor has.

The networks and adapters are those of engine.py, ResNet34 with norms drawn so that every layer reaches the answer.
Every contender runs once per round, so other load affects all of them alike; ratios are taken within a round.

    openvino NAME   the merged network with its head, converted as a whole for this batch, in precision NAME
    hot NAME        ours, one adapter whose merged weights are resident, everything in NAME
    int8 NAME       ours, the same with the trunk in int8 and the branch in NAME
    branch8 NAME    ours, with the branch in int8 as well, by ranges of drawn images; what is left is in NAME

    python -m benchmarks.int8.trunk [--rounds 15] [--threads 1] [--backbones tf_efficientnet_lite0 resnet34] [--results]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.shared import machine, results
from benchmarks.shared.contenders import (
    ADAPTED,
    Whole,
    draw_adapters,
    whole_openvino,
)
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, load_backbone
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.trunks.calibration import drawn_calibration
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network
from lensmount_adapters.trunks.ranges import recorded_ranges
from lensmount_adapters.trunks.record import FLOAT32, INT8_BRANCH, Figures, Int8Use, recorded

BATCHES, SIZE = (1, 16), 224
WARM = 24  # batches, after which a hot adapter has its end-to-end program
GOAL = "at least 1.5"


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--backbones", nargs="+", default=list(ADAPTED), choices=list(ADAPTED))
    results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(results.described())
    rows: list[Any] = []
    with TemporaryDirectory() as cache:
        for name in options.backbones:
            own = compared(name, Path(cache), options)
            results.show(own)
            rows += own
    if options.results is not None:
        results.write("int8", rows, options.results)


def compared(name: str, cache: Path, options: argparse.Namespace) -> list[Any]:
    weights, modules, _ = ADAPTED[name]
    backbone = with_drawn_norms(load_backbone(name, weights)) if weights else load_backbone(name)
    (adapter,) = draw_adapters(backbone, modules, 1)
    adapter = with_ranges(adapter, backbone, Int8Trunks(folder=cache))
    network = merged(backbone, adapter)
    rows: list[Any] = []
    for batch in BATCHES:
        images = torch.randn(batch, 3, SIZE, SIZE)
        asked = [Question(adapter, image) for image in images]
        ways: dict[str, Callable[[], object]] = {}
        runners = []
        for executor in executors(cache, options.threads):
            precision = str(executor.dtype).removeprefix("torch.")
            ways[f"openvino {precision}"] = whole_openvino(network, images, executor, options.threads)
            trunks = Int8Trunks(folder=cache)
            uses = {
                "hot": None,
                "int8": Int8Use(trunks, asked=True),
                "branch8": Int8Use(trunks, asked=True, branches=True),
            }
            for kind, int8 in uses.items():
                runner = SegmentRunner(backbone, executor, hot_bytes=2**31, int8=int8)
                runners.append(runner)
                for _ in range(WARM):
                    runner.scores(asked)
                runner.settle()
                ways[f"{kind} {precision}"] = partial(runner.scores, asked)
        seconds = timed(ways, options.rounds, 16 // batch)
        for runner in runners:
            runner.close()
        rows += ratios_of(f"{name}, batch {batch}", seconds)
    return rows


def with_ranges(adapter: Adapter, backbone: Backbone, trunks: Int8Trunks) -> Adapter:
    """The adapter with a record that allows a branch in int8. The time of a program does not depend on its ranges."""
    rule = backbone.preprocessing
    assert isinstance(rule, Preprocessing)
    images = (torch.from_numpy(image) for image in drawn_calibration().images(rule)[:8])
    network = Int8Network(backbone, trunks, [delta.target.name for delta in adapter.deltas])
    _, ranges = network.with_int8_branch(adapter, images)
    figures = {INT8_BRANCH: Figures("test", 1, 1.0, 0.0, network.recipe), FLOAT32: Figures("test", 1, 1.0, 0.0)}
    record = recorded(figures) | recorded_ranges(ranges, network.recipe, 8)
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"training": record}))


def executors(cache: Path, threads: int) -> list[Executor]:
    """OpenVINO in each precision that the processor computes in hardware."""
    found = []
    for precision in ("float32", "bfloat16"):
        try:
            found.append(choose_executor("openvino", precision, "cpu", threads, cache))
        except ExecutorUnavailable as error:
            print(f"without {precision}: {error}")
    return found


def timed(ways: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each way in each round, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            started = time.perf_counter()
            for _ in range(repeats):
                work()
            if turn:  # the first round warms the caches
                seconds[name].append((time.perf_counter() - started) / repeats)
    return seconds


def ratios_of(what: str, seconds: dict[str, list[float]]) -> list[Any]:
    """Milliseconds of each way, and the best of OpenVINO's and of ours with an int8 trunk compared."""
    rows = [results.Row.of(f"{what}: {way}", [1e3 * s for s in each], "ms") for way, each in seconds.items()]

    def best(kind: str) -> list[float]:
        return min(
            (each for way, each in seconds.items() if way.startswith(kind)),
            key=lambda each: sorted(each)[len(each) // 2],
        )

    rows.append(results.ratios(f"{what}: int8 trunk / best whole network", best("openvino"), best("int8"), GOAL))
    whole, both = best("openvino"), best("branch8")
    rows.append(results.ratios(f"{what}: int8 trunk and branch / best whole network", whole, both, GOAL))
    rows.append(results.ratios(f"{what}: int8 trunk / float trunk", best("hot"), best("int8")))
    return rows


def with_drawn_norms(backbone: Backbone) -> Backbone:
    """Residual branches start with a gain of zero in a network with random weights; drawn gains let them count."""
    draw = torch.Generator().manual_seed(1)
    for norm in (module for module in backbone.module.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.0, generator=draw)
    return Backbone(backbone.name, backbone.module, backbone.preprocessing, backbone.dtype)


def merged(backbone: Backbone, adapter: Adapter) -> nn.Module:
    """The network with the adapter's merged weights and its head."""
    module = backbone.twin().module
    with torch.no_grad():
        for delta in adapter.deltas:
            weight = module.get_parameter(delta.target.name)
            weight.copy_(delta.merged(weight))
    return Whole(module, adapter.head).eval()


if __name__ == "__main__":
    main()
