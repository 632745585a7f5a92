"""Images per second of the engine without HTTP: one adapter, 16 and 1,024, compared with torch, OpenVINO and PEFT.

There are two backbones with random adapters of rank 8: EfficientNet-Lite0 (adapters on the 1x1 convolutions of blocks 4
to 6 and conv_head) and ResNet34 with random weights (adapters on conv1 and conv2 of layer3 and layer4). Images have 224
pixels and a batch has 16. Every contender runs once per round, so other load on the machine affects all of them alike.
Ratios are taken within a round.

    eager      PyTorch float32, the merged network with its head, called in the usual way
    openvino   the same merged network, converted as a whole for a batch of 16, bfloat16 if the CPU supports it
    hot        ours, one adapter whose merged weights are resident
    16 hot     ours, 16 images of 16 adapters, the merged weights of all resident
    16 cold    ours, the same with factors only
    queue      ours, batches from the server's scheduler while 64 images wait: of one adapter, or of 16 in random order
    peft       PEFT's mixed batch (`adapter_names`) of the same 16 adapters, float32

    python benchmarks/engine.py [--rounds 7] [--threads 1] [--backbones tf_efficientnet_lite0 resnet34] [--results]
                                [--without fused end-to-end]

`--without` leaves out shortcuts of the runner (runners/shortcut.py), so that two runs show what each one gains.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from shared import machine, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.contenders import (  # type: ignore[import-not-found]
    ADAPTED,
    draw_adapters,
    eager,
    flops,
    merged_network,
    whole_openvino,
    with_peft,
)
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, load_backbone
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.segment_runner import SHORTCUTS, SegmentRunner
from lensmount_service.engine.scheduler import QueuedImage, Scheduler

BATCH, WAITING = 16, 64


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


@dataclass
class Stopwatch:
    """Seconds of each contender, with one value per round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def take(self, rounds: int, ways: dict[str, Callable[[], object]], repeats: int = 3) -> None:
        for work in ways.values():
            work()
        names = list(ways)
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = time.perf_counter()
                for _ in range(repeats):
                    ways[name]()
                self.seconds.setdefault(name, []).append((time.perf_counter() - started) / repeats)

    def __getitem__(self, name: str) -> list[float]:
        return self.seconds[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--backbones", nargs="+", default=list(ADAPTED), choices=list(ADAPTED))
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--without", nargs="+", default=[], choices=list(SHORTCUTS), help="shortcuts to leave out")
    results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(results.described())
    rows: list[Any] = []
    with TemporaryDirectory() as cache:
        for name in options.backbones:
            executor = choose_executor(options.executor, options.precision, "cpu", options.threads, Path(cache))
            precision = str(executor.dtype).removeprefix("torch.")
            left_out = f", without {' and '.join(options.without)}" if options.without else ""
            print(f"\n{name}: {executor.name} {precision}, {options.threads} threads{left_out}\n")
            for part in options.parts:
                own = PARTS[part](name, executor, options)
                results.show(own)
                rows += own
    if options.results is not None:
        results.write("engine", rows, options.results)


def throughput(name: str, executor: Executor, options: argparse.Namespace) -> list[Any]:
    """One adapter and sixteen, compared with eager torch, OpenVINO and PEFT."""
    weights, modules, _ = ADAPTED[name]
    backbone = load_backbone(name, weights)
    adapters = draw_adapters(backbone, modules, BATCH)
    images = torch.randn(BATCH, 3, 224, 224)
    one = [Question(adapters[0], image) for image in images]
    mixed = [Question(adapter, image) for adapter, image in zip(adapters, images, strict=True)]
    hot = warmed(runner_of(backbone, executor, options, hot_bytes=2**33), [mixed, one])  # ResNet34: 200 MB per adapter
    cold = warmed(runner_of(backbone, executor, options, hot_bytes=0), [mixed, one])
    network = merged_network(backbone, adapters[0])
    with torch.inference_mode():
        right = network(images).softmax(1)
    ways: dict[str, Callable[[], object]] = {
        "eager": lambda: eager(network, images),
        "hot": lambda: hot.scores(one),
        "16 hot": lambda: hot.scores(mixed),
        "one cold": lambda: cold.scores(one),
        "16 cold": lambda: cold.scores(mixed),
        "queue, one hot": queue(hot, adapters[:1], images),
        "queue, 16 hot": queue(hot, adapters, images),
    }
    if executor.name == "openvino":
        ways["openvino"] = whole_openvino(network, images, executor, options.threads)
    watch = Stopwatch()
    watch.take(options.rounds, ways)
    watch.take(max(2, options.rounds // 3), {"peft": with_peft(name, backbone, adapters, images)}, repeats=1)
    found = torch.stack(hot.scores(one).scores)
    print(f"largest difference of a hot adapter's scores from float32: {(found - right).abs().max():.4f}")
    print(f"how the mixed batches were computed: {hot.scores(mixed).modes}, {cold.scores(mixed).modes}\n")
    hot.close()
    cold.close()
    rate = {way: [BATCH / s for s in seconds] for way, seconds in watch.seconds.items()}
    goal = {"tf_efficientnet_lite0": "at least 9", "resnet34": "at least 8"}[name]
    rows = [results.Row.of(f"{name}, {way}", values, "images/s") for way, values in rate.items()]
    rows.append(results.ratios(f"{name}: hot / eager", rate["hot"], rate["eager"], goal))
    if "openvino" in rate:
        rows.append(results.ratios(f"{name}: hot / openvino", rate["hot"], rate["openvino"], "at least 0.9"))
    rows += [
        results.ratios(f"{name}: 16 hot / one hot", rate["16 hot"], rate["hot"], "at least 0.8"),
        results.ratios(
            f"{name}: 16 hot / one hot, 64 waiting", rate["queue, 16 hot"], rate["queue, one hot"], "at least 0.8"
        ),
        results.ratios(f"{name}: 16 cold / one hot", rate["16 cold"], rate["hot"]),
        results.Row.of(
            f"{name}: 16 hot / PEFT's mixed batch",
            [statistics.median(rate["16 hot"]) / peer for peer in rate["peft"]],
            goal="at least 10",
        ),
    ]
    return rows


def queue(runner: SegmentRunner, adapters: Sequence[Adapter], images: Tensor) -> Callable[[], None]:
    """Return a function that computes one batch of the scheduler. Answered images are replaced, so 64 always wait."""
    scheduler: Scheduler[None] = Scheduler(BATCH, WAITING, mix=True)
    draw = random.Random(0)

    def ask(count: int) -> None:
        for number in range(count):
            scheduler.submit([QueuedImage(draw.choice(adapters), images[number % BATCH])])

    def work() -> None:
        batch = scheduler.next_batch(block=False)
        assert batch is not None
        runner.scores(batch)
        for item in batch:
            item.future.set_result(None)
        ask(len(batch))

    ask(WAITING)
    return work


def switching(name: str, executor: Executor, options: argparse.Namespace) -> list[Any]:
    """Any-to-any switches: cold factors against a plain copy of the same bytes, a hot slot against a forward pass."""
    weights, modules, _ = ADAPTED[name]
    backbone = load_backbone(name, weights)
    a, b = draw_adapters(backbone, modules, 2)
    image = torch.randn(3, 224, 224)
    runner = warmed(runner_of(backbone, executor, options), [[Question(a, image)], [Question(b, image)]] * 2)
    (split,) = runner.splits
    touched = [torch.empty_like(backbone.tensors[delta.target.name]) for delta in a.deltas]
    originals = [backbone.tensors[delta.target.name] for delta in a.deltas]

    def copy() -> None:
        for target, source in zip(touched, originals, strict=True):
            target.copy_(source)

    def cold() -> None:
        split.mount(a)
        split.mount(b)

    def look_up() -> None:
        for _ in range(100):
            runner.programs.cache.get(a.digest)

    watch = Stopwatch()
    watch.take(
        3 * options.rounds,
        {
            "copy": copy,
            "cold": cold,
            "hot": look_up,
            "forward": lambda: runner.scores([Question(a, image)]),
        },
    )
    runner.close()
    switch = [seconds / 2 for seconds in watch["cold"]]
    lookup = [seconds / 100 for seconds in watch["hot"]]
    return [
        results.Row.of(f"{name}: switch, cold factors", [1e3 * s for s in switch], "ms"),
        results.ratios(f"{name}: switch, cold / plain copy", switch, watch["copy"], "at most 1.3"),
        results.ratios(f"{name}: switch, hot / forward of one image", lookup, watch["forward"], "below 0.01"),
    ]


def fan_out(name: str, executor: Executor, options: argparse.Namespace) -> list[Any]:
    """One image for 16 adapters of the network's last quarter: one call compared with 16, and with the arithmetic."""
    weights, _, modules = ADAPTED[name]
    backbone = load_backbone(name, weights)
    adapters = draw_adapters(backbone, modules, BATCH)
    image = torch.randn(3, 224, 224)
    together = [Question(adapter, image) for adapter in adapters]
    apart = [[question] for question in together]
    runner = warmed(runner_of(backbone, executor, options, hot_bytes=2**31), [together, *apart])
    trunk, branch = flops(backbone, [delta.target.name for delta in adapters[0].deltas])
    watch = Stopwatch()
    watch.take(
        options.rounds,
        {"together": lambda: runner.scores(together), "apart": lambda: [runner.scores(one) for one in apart]},
        repeats=5,
    )
    runner.close()
    single = [seconds / BATCH for seconds in watch["apart"]]
    share = (trunk + BATCH * branch) / (trunk + branch)
    print(f"{name}: the branch of the last quarter has {branch / (trunk + branch):.0%} of the arithmetic")
    return [
        results.ratios(
            f"{name}: 16 calls / one call with 16 adapters", watch["apart"], watch["together"], "at least 3"
        ),
        results.Row.of(
            f"{name}: one call with 16 adapters / (trunk + 16 branches by FLOPs)",
            [own / (share * one) for own, one in zip(watch["together"], single, strict=True)],
            goal="at most 1.2",
        ),
    ]


def thousand(name: str, executor: Executor, options: argparse.Namespace) -> list[Any]:
    """1,024 registered adapters, a working set of 4 times the hot slots, batches of 16 images."""
    weights, modules, _ = ADAPTED[name]
    backbone = load_backbone(name, weights)
    adapters = draw_adapters(backbone, modules, 1024)
    images = list(torch.randn(BATCH, 3, 224, 224))
    probe = warmed(runner_of(backbone, executor, options), [[Question(adapters[0], images[0])]])
    slot = probe.splits[0].hot_nbytes
    probe.close()
    runner = runner_of(backbone, executor, options, hot_bytes=BATCH * slot + slot // 2)
    for adapter in adapters:
        runner.prepare(adapter)
    draw = random.Random(0)
    rows: list[Any] = []
    rates: dict[str, list[float]] = {}
    mixes: dict[str, tuple[int, list[float] | None]] = {
        "in cache": (BATCH, None),
        "uniform": (4 * BATCH, None),
        "zipf": (4 * BATCH, [1 / (rank + 1) for rank in range(4 * BATCH)]),
    }
    for mix, (working_set, odds) in mixes.items():

        def batch(working_set: int = working_set, odds: list[float] | None = odds) -> float:
            chosen = draw.choices(adapters[:working_set], odds, k=BATCH)
            asked = [Question(adapter, image) for adapter, image in zip(chosen, images, strict=True)]
            started = time.perf_counter()
            runner.scores(asked)
            return time.perf_counter() - started

        for _ in range(40):
            batch()
        runner.settle()
        before = resident_bytes()
        seconds = [batch() for _ in range(20 * options.rounds)]
        rates[mix] = [BATCH / s for s in seconds]
        p95 = sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]
        grown = (resident_bytes() - before) / 1e6
        print(f"{name}, {mix}: {statistics.median(rates[mix]):.0f} images/s, p95 of a batch {1e3 * p95:.0f} ms")
        rows.append(results.Row.of(f"{name}, 1,024 registered, {mix}: p95 of a batch", [1e3 * p95], "ms"))
        rows.append(results.Row.of(f"{name}, 1,024 registered, {mix}: growth of memory", [grown], "MB", "flat"))
    runner.close()
    steady = statistics.median(rates["in cache"])
    for mix in ("uniform", "zipf"):
        parts = [statistics.median(rates[mix][n :: options.rounds]) / steady for n in range(options.rounds)]
        rows.append(results.Row.of(f"{name}, 1,024 registered: {mix} / in cache", parts, goal="at least 0.5"))
    return rows


PARTS: dict[str, Callable[[str, Executor, argparse.Namespace], list[Any]]] = {
    "throughput": throughput,
    "switching": switching,
    "fan-out": fan_out,
    "thousand": thousand,
}


def runner_of(backbone: Backbone, executor: Executor, options: argparse.Namespace, **given: Any) -> SegmentRunner:
    """A runner without the shortcuts that the command line leaves out."""
    return SegmentRunner(backbone, executor, shortcuts=[n for n in SHORTCUTS if n not in options.without], **given)


def warmed(runner: SegmentRunner, batches: Sequence[Sequence[Question]]) -> SegmentRunner:
    """Run these batches until every program that they justify has been made."""
    for batch in batches:
        for question in batch:
            runner.prefetch(question.adapter)
    for _ in range(2):  # first the programs of branches, then the end-to-end programs
        for _ in range(70):  # enough for each shape to get a program of its own
            for batch in batches[:2]:
                runner.scores(batch)
        runner.settle()
    for _ in range(3):
        for batch in batches:
            runner.scores(batch)
        runner.settle()
    return runner


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


if __name__ == "__main__":
    main()
