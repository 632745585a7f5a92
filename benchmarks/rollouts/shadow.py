"""Images per second of 16 clients with a shadow for every image against none, in turn; goal at least 0.75.

    python -m benchmarks.rollouts.shadow [--rounds 15] [--seconds 5] [--clients 16] [--pause-ms 0]

EfficientNet-Lite0 in the engine of this process, one hot adapter of the zoo, and another version of it in its shadow.
Each client sends its next image after `--pause-ms` from the answer to the last one. Besides the rates the table shows
how many of the images had a shadow that was computed (the others were shed), how many of these started from the trunk
of the answer's own pass, and the 99th percentile of a client's time. Every answer is compared, to the bit, with those
of the rounds without a shadow. What waits at the end of a round, at most 64 images, is computed before the next one.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from benchmarks.shared import results
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.engine.engine import Engine
from lensmount_service.engine.shadows import Shadow, ShadowResult
from lensmount_service.metrics import Metrics
from lensmount_service.startup import SWITCH_S

ZOO = Path(__file__).parents[2] / "adapters" / "zoo"
GOAL = "at least 0.75"
WARM_UP_S = 5.0


@dataclass(slots=True)
class Round:
    """What one round counted."""

    shadowed: bool
    seconds: list[float] = field(default_factory=list)  # of each answer
    lasted_s: float = 0.0
    told: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.lasted_s

    @property
    def p99_ms(self) -> float:
        return 1e3 * sorted(self.seconds)[int(0.99 * len(self.seconds))]

    def share(self, *names: str) -> float:
        return sum(self.told[name] for name in names) / max(1, self.told.total())

    def tell(self, result: ShadowResult) -> None:
        self.told[result.why or ("shared" if result.shared_trunk else "again")] += 1


class Clients:
    """`Clients(engine, stable, images).round(seconds, shadow)`."""

    def __init__(self, engine: Engine, stable: Adapter, images: Sequence[Tensor], pause_s: float) -> None:
        self._engine = engine
        self._stable = stable
        self._images = images
        self._pause_s = pause_s
        self.answers = {way: [set[bytes]() for _ in images] for way in (True, False)}  # with and without a shadow

    def round(self, seconds: float, shadow: Adapter | None) -> Round:
        """One round; afterwards, and outside its time, the shadows that still wait are computed."""
        counted = Round(shadow is not None)
        wanted = [Shadow(shadow, counted.tell) if shadow is not None else None]
        lock, until = threading.Lock(), time.perf_counter() + seconds

        def ask(number: int) -> None:
            taken, given = [], set()
            while (started := time.perf_counter()) < until:
                (future,) = self._engine.submit_many([(self._stable, self._images[number])], shadows=wanted)
                given.add(future.result().scores.numpy().tobytes())
                taken.append(time.perf_counter() - started)
                if self._pause_s:
                    time.sleep(self._pause_s)
            with lock:
                counted.seconds += taken
                self.answers[counted.shadowed][number] |= given

        started = time.perf_counter()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(self._images))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted.lasted_s = time.perf_counter() - started
        while counted.shadowed and counted.told.total() < len(counted.seconds):
            time.sleep(0.01)
        return counted


def main() -> None:
    parser = argparse.ArgumentParser(description="What a shadow costs those who are answered.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause-ms", type=float, default=0.0)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    sys.setswitchinterval(SWITCH_S)
    print(results.described())
    backbone = load_backbone("tf_efficientnet_lite0")
    stable, shadow = versions(backbone)
    with TemporaryDirectory() as cache:
        executor = choose_executor(options.executor, options.precision, "cpu", 1, Path(cache))
        print(f"{executor.name} {executor.dtype}")
        runner = SegmentRunner(backbone, executor)
        for adapter in (stable, shadow):
            runner.prepare(adapter)
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(options.clients, *stable.manifest.preprocessing.input_shape, generator=draw)
        with Engine(backbone, runner, Metrics("0", backbone.name, backbone.fingerprint)) as engine:
            clients = Clients(engine, stable, list(images), options.pause_ms / 1e3)
            for each in (None, shadow, None, shadow):
                clients.round(WARM_UP_S, each)
                runner.settle()
            for answers in (*clients.answers[True], *clients.answers[False]):
                answers.clear()
            rounds = [
                clients.round(options.seconds, each)
                for turn in range(options.rounds)
                for each in ((None, shadow) if turn % 2 else (shadow, None))
            ]
    new = [
        float(len(found - known)) for found, known in zip(clients.answers[True], clients.answers[False], strict=True)
    ]
    show(rounds, new)


def show(rounds: Sequence[Round], new: Sequence[float]) -> None:
    shadowed, plain = ([each for each in rounds if each.shadowed is way] for way in (True, False))
    rates = {way: [each.rate for each in those] for way, those in (("with", shadowed), ("without", plain))}
    results.show(
        [
            results.Row.of("images/s with a shadow", rates["with"], "1/s"),
            results.Row.of("images/s without", rates["without"], "1/s"),
            results.ratios("rate: with / without", rates["with"], rates["without"], GOAL),
            results.Row.of("p99 with", [each.p99_ms for each in shadowed], "ms"),
            results.Row.of("p99 without", [each.p99_ms for each in plain], "ms"),
            results.Row.of("shadows computed", [each.share("shared", "again") for each in shadowed], "share"),
            results.Row.of("shadows from the pass's own trunk", [each.share("shared") for each in shadowed], "share"),
            results.Row.of("shadows shed", [each.share("shed") for each in shadowed], "share"),
            results.Row.of(
                "answers to one image only with a shadow", new, "count", "0, or a batch of a size not seen without"
            ),
        ]
    )


def versions(backbone: Backbone) -> tuple[Adapter, Adapter]:
    """The zoo's malaria adapter, and another version whose factors are a tenth larger and which promises nothing."""
    file = parse_adapter((ZOO / "malaria.safetensors").read_bytes())
    tensors = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("trust.")}
    larger = {name: 1.1 * tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}
    first = admit(dump_adapter(file.manifest, file.tensors), backbone)
    second = admit(dump_adapter(file.manifest.model_copy(update={"trust": None}), larger), backbone)
    assert first.digest != second.digest
    return first, second


if __name__ == "__main__":
    main()
