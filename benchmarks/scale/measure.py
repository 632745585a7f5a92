"""Measures the costs of this machine and writes `machine.json`. Run it while nothing else runs.

The lines of trunk and branch come from `lensmount calibrate`. What it does not print is measured here: end-to-end
programs, merging, packing, Python's share of a batch, admission, and with a server of its own what a request costs
outside the engine. The time of the object store is a setting, because it depends on the network.

    python -m benchmarks.scale.measure [--seconds 8] [--fetch-ms 60] [--out benchmarks/scale/machine.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from benchmarks.scale.costs import MACHINE, MachineCosts
from benchmarks.scale.server import ENVIRONMENT, batches_of, load, processor_s, serving
from benchmarks.scale.variants import variants
from benchmarks.shared import results
from scipy.optimize import nnls
from torch import Tensor

from lensmount_adapters import Adapter, load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.runner import BatchScores
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_client._bench.load import Mix

ADAPTERS = 32
BATCHES = 300  # the first third warms up
CONNECTIONS = 16


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor
    traced: bool = True  # the runner then says how long each stage took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load on the server")
    parser.add_argument("--fetch-ms", type=float, default=60.0, help="an adapter's way from the object store")
    parser.add_argument("--out", type=Path, default=MACHINE)
    options = parser.parse_args()
    print(results.described(), flush=True)
    costs = with_requests(in_the_engine(options.fetch_ms / 1000), options.seconds)
    costs.write(options.out)
    print(options.out.read_text())


def calibrated() -> tuple[dict[str, str], dict[str, LinearCost]]:
    """What `lensmount calibrate` says of the shipped adapters: the engine, and the lines by way."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lensmount_client", "calibrate", "--json", "--threads", "1", "--state", folder]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT)
    found: dict[str, Any] = json.loads(told.stdout)
    ways = {name.rpartition(": ")[2].split()[0]: line for name, line in found["branch"].items()}
    return found["engine"], {way: LinearCost(line["fixed_s"], line["per_image_s"]) for way, line in ways.items()}


def in_the_engine(fetch_s: float) -> MachineCosts:
    """Everything that needs no server; what a request costs outside the engine is zero."""
    engine, lines = calibrated()
    torch.set_num_threads(1)
    backbone = load_backbone()
    runner = SegmentRunner(backbone, choose_executor(engine["executor"], engine["precision"], "cpu", 1, None))
    admissions = [timed(partial(admit, data, backbone)) for data in variants(ADAPTERS).values()]
    adapters = [adapter for adapter, _ in admissions]
    for adapter in adapters:
        runner.prepare(adapter)
    runner.settle()
    (split,) = runner.splits
    _, bind_s = timed(partial(split.bind, adapters[0]))
    image = torch.randn(backbone.zeros(1).shape[1:])
    times = Times()
    for number in range(BATCHES):
        batch = drawn(adapters, image, number)
        outcome, took = timed(partial(runner.scores, batch))
        if number < BATCHES / 3:
            runner.settle()  # warm: programs that the load justifies are made
        else:
            times.add(outcome, took, len({question.adapter.digest for question in batch}))
    learned = split.costs
    nbytes = {key: held.nbytes for key, held in runner.programs.cache._held.items()}
    runner.close()
    one = times.line("whole")
    return MachineCosts(
        measured={"on": datetime.now(UTC).date().isoformat(), "processor": str(results.machine()["processor"])}
        | {name: engine[name] for name in ("executor", "precision")},
        calibrated=lines,
        trunk=times.line("trunk"),
        hot=times.line("hot"),
        merged=times.line("merged"),
        mixed=times.line("mixed") if times.has("mixed") else lines["mixed"],
        whole=one,
        batch=times.rest(),
        merge_s=learned.merge,
        pack_s=learned.pack,
        slots=learned.slots,
        request_s=0.0,
        transfer_s=0.0,
        contention=0.0,
        admit_s=statistics.median(seconds for _, seconds in admissions),
        fetch_s=fetch_s,
        bind_s=bind_s,
        factor_bytes=adapters[0].nbytes(),
        hot_bytes=max(size for key, size in nbytes.items() if isinstance(key, str)),
        whole_bytes=max(size for key, size in nbytes.items() if not isinstance(key, str)),
    )


class Times:
    """Seconds of the stages of batches, by way and images, and what Python needs on top of them, by adapters."""

    def __init__(self) -> None:
        self._of: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._rest: list[tuple[int, float]] = []

    def add(self, outcome: BatchScores, took_s: float, adapters: int) -> None:
        rest_s = took_s
        for stage in outcome.stages:
            seconds = stage.ended - stage.started
            rest_s -= seconds if stage.name != "head" else 0.0
            if stage.name in ("trunk", "branch"):
                self._of[stage.mode or stage.name].append((len(stage.items), seconds))
        self._rest.append((adapters, rest_s))

    def has(self, way: str) -> bool:
        return len({images for images, _ in self._of[way]}) > 1

    def line(self, way: str) -> LinearCost:
        return line_through(self._of[way])

    def rest(self) -> LinearCost:
        return line_through(self._rest)


def line_through(points: Sequence[tuple[int, float]]) -> LinearCost:
    """The line nearest to the median seconds of each number, relative to them, with no part below zero."""
    by_number: dict[int, list[float]] = defaultdict(list)
    for number, seconds in points:
        by_number[number].append(seconds)
    numbers = sorted(by_number)
    medians = np.array([statistics.median(by_number[number]) for number in numbers])
    weights = np.sqrt([len(by_number[number]) for number in numbers]) / medians
    columns = np.stack([np.ones(len(numbers)), numbers], axis=1) * weights[:, None]
    (fixed, per_image), _ = nnls(columns, weights * medians)
    return LinearCost(float(fixed), float(per_image))


def drawn(adapters: Sequence[Adapter], image: Tensor, number: int) -> list[Question]:
    """A batch of 1 to 16 images. Every third has one adapter; the others draw theirs by zipf's law."""
    draw = Random(number)
    count = draw.randint(1, 16)
    weights = Mix.zipf.weights(len(adapters))
    chosen = [adapters[0]] * count if number % 3 == 0 else draw.choices(adapters, weights, k=count)
    return [Question(adapter, image.clone()) for adapter in chosen]


def with_requests(costs: MachineCosts, duration_s: float) -> MachineCosts:
    """With what a request costs outside the engine: on one connection nothing waits, on many the engine never rests.

    The server's processor time says how much of it is Python's. What one connection waits beyond that is transfer.
    With many connections, the engine is slower than alone, by `contention` for all of Python's time.
    """
    with serving(1) as server:
        _, _, alone = processor_s(server, load(server.url, 1, Mix.one, connections=1, duration_s=duration_s))
        many = load(server.url, 1, Mix.one, connections=CONNECTIONS, duration_s=duration_s)
        processor_s(server, many)  # makes the programs for batches
        before = batches_of(server)
        per_s, used_s, _ = processor_s(server, many)
        images, batches = (now - then for now, then in zip(batches_of(server), before, strict=True))
    batch = images / batches
    engine_s = costs.whole.fixed / batch + costs.whole.per_image  # for each image, alone
    request_s = used_s - engine_s
    latency_s = statistics.median(alone)
    print(
        f"{per_s:.1f} requests/s, {1e3 * used_s:.2f} ms of processor each; alone {1e3 * latency_s:.2f} ms", flush=True
    )
    slower = 1 / per_s / engine_s  # than alone, while Python works `busy` of the time
    busy = per_s * request_s
    return costs.scaled(
        request_s=request_s,
        transfer_s=max(0.0, latency_s - request_s - costs.whole(1)),
        contention=max(0.0, slower - 1) / busy,
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


if __name__ == "__main__":
    main()
