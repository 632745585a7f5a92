"""What each optional piece of machinery gains: the engine with it and without it, in turn, in one process.

    end-to-end   one program from images to features (runners/end_to_end.py)
    fused        one program for adapters that come together (runners/fused.py)
    kernel       the switch kernel compiled by llvmlite (delta/addmm_kernel.py)
    compile      TorchInductor (programs/inductor.py) in place of eager torch, for machines without OpenVINO

The contenders take turns in an order that rotates, so other load on the machine affects all of them alike. A ratio is
taken within a round and is time without / time with: above 1, the piece gains.

    python benchmarks/machinery.py [--rounds 15] [--threads 1] [--backbones tf_efficientnet_lite0 resnet34]
                                   [--parts end-to-end fused kernel compile] [--results]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from engine import BATCH, Question, Stopwatch, resident_bytes, warmed  # type: ignore[import-not-found]
from shared import machine, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.contenders import ADAPTED, draw_adapters, merged_network  # type: ignore[import-not-found]

from lensmount_adapters import Adapter, Backbone, ExactSwapper, load_backbone
from lensmount_adapters.delta import addmm
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SHORTCUTS, SegmentRunner

Ways = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--backbones", nargs="+", default=list(ADAPTED), choices=list(ADAPTED))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(results.described())
    rows: list[Any] = []
    for name in options.backbones:
        weights, modules, _ = ADAPTED[name]
        backbone = load_backbone(name, weights)
        adapters = draw_adapters(backbone, modules, BATCH)
        for part in options.parts:
            print(f"\n{name}: {part}, {options.threads} threads\n")
            own = PARTS[part](backbone, adapters, options)
            results.show(own)
            rows += own
    if options.results is not None:
        results.write("machinery", rows, options.results)


def end_to_end(backbone: Backbone, adapters: list[Adapter], options: argparse.Namespace) -> list[Any]:
    images = torch.randn(BATCH, 3, 224, 224)
    one, many = [Question(adapters[0], images[0])], [Question(adapters[0], image) for image in images]
    rows: list[Any] = []
    for asked in (one, many):  # a runner of its own for each, because a program is made for the size that is asked
        rows += _shortcut(backbone, asked, "end-to-end", f"{len(asked)} image(s) of one adapter", options)
    return rows


def fused(backbone: Backbone, adapters: list[Adapter], options: argparse.Namespace) -> list[Any]:
    images = torch.randn(BATCH, 3, 224, 224)
    asked = [Question(adapter, image) for adapter, image in zip(adapters, images, strict=True)]
    return _shortcut(backbone, asked, "fused", f"{BATCH} images of {BATCH} adapters", options)


def _shortcut(
    backbone: Backbone, asked: list[Question], shortcut: str, what: str, options: argparse.Namespace
) -> list[Any]:
    """All shortcuts against all but one."""
    with TemporaryDirectory() as cache:
        executor = choose_executor("auto", "auto", "cpu", options.threads, Path(cache))
        sets = {"with": list(SHORTCUTS), "without": [name for name in SHORTCUTS if name != shortcut]}
        runners, grown = {}, {}
        for way, shortcuts in sets.items():
            before = resident_bytes()
            runner = SegmentRunner(backbone, executor, hot_bytes=2**33, shortcuts=shortcuts)
            runners[way] = warmed(runner, [asked])
            grown[way] = (resident_bytes() - before) / 1e6
        modes = {way: runner.scores(asked).modes for way, runner in runners.items()}
        print(f"{executor.name} {executor.dtype}, {what}: {modes}")
        rows = _compared(
            f"{backbone.name}, {shortcut}: {what}", {w: _work(r, asked) for w, r in runners.items()}, options
        )
        rows.append(
            results.Row.of(f"{backbone.name}, {shortcut}: {what}, memory", [grown["with"] - grown["without"]], "MB")
        )
        for runner in runners.values():
            runner.close()
    return rows


def _work(runner: SegmentRunner, asked: list[Question]) -> Callable[[], object]:
    return lambda: runner.scores(asked)


def kernel(backbone: Backbone, adapters: list[Adapter], options: argparse.Namespace) -> list[Any]:
    """A switch between two adapters on the live weights, as `--executor merged` does it."""
    swapper = ExactSwapper(backbone)
    with_kernel, none = addmm.KERNELS, _NoKernels()

    def switch(kernels: addmm.KernelCache) -> Callable[[], object]:
        def work() -> None:
            addmm.KERNELS = kernels
            for adapter in adapters[:2]:
                swapper.mount(adapter)

        return work

    ways: Ways = {"with": switch(with_kernel), "without": switch(none)}
    try:
        return _compared(f"{backbone.name}, kernel: two switches", ways, options)
    finally:
        addmm.KERNELS = with_kernel
        swapper.unmount()


class _NoKernels(addmm.KernelCache):
    """As if llvmlite were not installed."""

    def kernel(self, rank: int) -> None:
        return None


def compiled(backbone: Backbone, adapters: list[Adapter], options: argparse.Namespace) -> list[Any]:
    """The merged network as one program of `--executor compile` and of `--executor eager`, in the same precision."""
    images = torch.randn(BATCH, 3, 224, 224)
    graph = Segments(merged_network(backbone, adapters[0])).halves(()).trunk
    assert graph is not None  # without names, all but the last cut is trunk
    rows: list[Any] = []
    with TemporaryDirectory() as cache:
        programs = {}
        for way, name in (("with", "compile"), ("without", "eager")):
            started = time.perf_counter()
            executor = choose_executor(name, "float32", "cpu", options.threads, Path(cache))
            programs[way] = executor.compile(graph, (images[:2],), (), "network").bind(())
            print(f"{name} {executor.dtype}: ready after {time.perf_counter() - started:.0f} s")
        for few in (images[:1], images):
            ways: Ways = {way: partial(program, few) for way, program in programs.items()}
            rows += _compared(f"{backbone.name}, compile: {len(few)} image(s)", ways, options)
    return rows


def _compared(what: str, ways: Ways, options: argparse.Namespace) -> list[Any]:
    watch = Stopwatch()
    watch.take(options.rounds, ways, repeats=5)
    milliseconds = {way: [1e3 * s for s in watch[way]] for way in ways}
    return [
        *(results.Row.of(f"{what}, {way}", values, "ms") for way, values in milliseconds.items()),
        results.ratios(f"{what}: without / with", watch["without"], watch["with"]),
    ]


PARTS: dict[str, Callable[[Backbone, list[Adapter], argparse.Namespace], list[Any]]] = {
    "end-to-end": end_to_end,
    "fused": fused,
    "kernel": kernel,
    "compile": compiled,
}


if __name__ == "__main__":
    main()
