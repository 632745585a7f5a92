"""Memory of 100 tasks: one backbone with 100 adapters, compared with one whole network and with 100 whole networks.

Each is measured in its own process, after it has loaded everything and answered one image. Ours is the serving engine
with its default executor and no hot slots; its programs are on disk from an earlier start, and it has answered one
image with every adapter and one batch of 16. RSS and PSS are as the system counts them. A process that has only
imported the libraries is measured too, and the difference is the memory of the tasks themselves. Ours imports timm as
`lensmount serve` does, without TorchDynamo; the whole networks are in a process that imports timm as it is. PSS divides
the pages of the libraries among all processes on the machine that use them, so ratios are of RSS. Weights are random.
Adapters have rank 8 on the layers that `lensmount train` chooses, and a head of two classes. Every whole network has a
copy of all its weights.

    python benchmarks/memory.py [--backbones tf_efficientnet_lite0 resnet34] [--tasks 100] [--rounds 3] [--results]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

RANK = 8
MB = 1e6
KINDS = ("imports", "ours", "one", "whole", "adapters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0", "resnet34"])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--programs", type=Path, help=argparse.SUPPRESS)
    results.add_option(parser)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options.backbones[0], options.tasks, options.programs)))
        return
    print(results.described())
    rows = []
    for backbone in options.backbones:
        with tempfile.TemporaryDirectory() as programs:
            child("adapters", backbone, 16, programs)  # the first start, which leaves its programs on disk
            rounds = [
                {kind: child(kind, backbone, options.tasks, programs) for kind in KINDS} for _ in range(options.rounds)
            ]
        show(backbone, options.tasks, rounds)
        rows += compared(backbone, options.tasks, rounds)
    print()
    results.finish("memory", rows, options.results)


def child(kind: str, backbone: str, tasks: int, programs: str) -> dict[str, float]:
    """Run one child process; returns MB by name: rss, pss, tensors."""
    command = [sys.executable, __file__, "--child", kind, "--backbones", backbone, "--tasks", str(tasks)]
    command += ["--programs", programs]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} of {backbone}: exit status {done.returncode} (was there enough memory?)")
    found: dict[str, float] = {name: value / MB for name, value in json.loads(done.stdout).items()}
    return found


def show(backbone: str, tasks: int, rounds: list[dict[str, dict[str, float]]]) -> None:
    """Print the figures of the last round."""
    names = {
        "imports": "the libraries alone",
        "ours": "the libraries as a server imports them",
        "one": "one whole network",
        "whole": f"{tasks} whole networks",
        "adapters": f"one backbone, {tasks} adapters",
    }
    print(f"\n| {backbone}, MB | PSS | RSS | RSS beyond the libraries | tensors |\n|---|---:|---:|---:|---:|")
    for kind, found in rounds[-1].items():
        beyond = beyond_libraries(rounds[-1], kind)
        values = (found["pss"], found["rss"], beyond, found["tensors"])
        print(f"| {names[kind]} | {' | '.join(f'{value:,.0f}' for value in values)} |")


def beyond_libraries(found: dict[str, dict[str, float]], kind: str) -> float:
    return found[kind]["rss"] - found["ours" if kind in ("ours", "adapters") else "imports"]["rss"]


def compared(backbone: str, tasks: int, rounds: list[dict[str, dict[str, float]]]) -> list[results.Row]:
    ours, whole, one = (f"{tasks} adapters", f"{tasks} whole networks", "one whole network")
    measures: dict[str, Callable[[dict[str, dict[str, float]], str], float]] = {
        "RSS": lambda found, kind: found[kind]["rss"],
        "RSS beyond the libraries": beyond_libraries,
        "tensors": lambda found, kind: found[kind]["tensors"],
    }
    rows = []
    for name, of in measures.items():
        for above, below, what in (("whole", "adapters", f"{whole} / {ours}"), ("adapters", "one", f"{ours} / {one}")):
            values = ([of(found, kind) for found in rounds] for kind in (above, below))
            rows.append(results.ratios(f"{backbone}, {name}: {what}", *values))
    return rows


# The children. They import torch themselves, because the parent does not need it.


def imports(backbone: str, tasks: int, programs: Path) -> dict[str, int]:
    import timm  # noqa: F401

    import lensmount_adapters  # noqa: F401

    return weighed(0)


def ours(backbone: str, tasks: int, programs: Path) -> dict[str, int]:
    from lensmount_adapters.light_timm import import_timm

    import_timm()
    return imports(backbone, tasks, programs)


def one(backbone: str, tasks: int, programs: Path) -> dict[str, int]:
    return whole(backbone, 1, programs)


def whole(backbone: str, tasks: int, programs: Path) -> dict[str, int]:
    import copy

    import timm
    import torch

    torch.set_num_threads(1)
    first: Any = timm.create_model(backbone, num_classes=2).eval()
    networks = [first] + [copy.deepcopy(first) for _ in range(tasks - 1)]
    with torch.inference_mode():
        networks[-1](torch.zeros(1, *first.pretrained_cfg["input_size"]))
    return weighed(sum(_nbytes(tensor) for network in networks for tensor in network.state_dict().values()))


def adapters(backbone: str, tasks: int, programs: Path) -> dict[str, int]:
    import torch

    from lensmount_adapters.light_timm import import_timm

    import_timm()  # as `lensmount serve` does: without TorchDynamo and sympy, which are 150 MB
    from lensmount_adapters import admit, load_backbone
    from lensmount_adapters.programs.choose import choose_executor
    from lensmount_adapters.runners.costs import CostBook
    from lensmount_adapters.runners.segment_runner import SegmentRunner

    torch.set_num_threads(1)
    resident = load_backbone(backbone, "random:0")
    resident.keep_nothing()  # as `lensmount serve` does
    executor = choose_executor("auto", "auto", "cpu", 1, programs)
    runner = SegmentRunner(resident, executor, hot_bytes=0, book=CostBook(programs))
    image = torch.zeros(3, *resident.preprocessing.size)
    asked = [Asked(admit(adapter_bytes(resident, seed), resident), image) for seed in range(tasks)]
    for one in asked:
        runner.prepare(one.adapter)
    runner.settle()
    for one in asked:
        runner.scores([one])
    runner.scores(asked[:16])
    runner.close()
    return weighed(sum(resident.bytes_resident()) + sum(one.adapter.nbytes() for one in asked))


@dataclass
class Asked:
    adapter: Any
    image: Any


CHILDREN = {"imports": imports, "ours": ours, "one": one, "whole": whole, "adapters": adapters}


def weighed(tensors: int) -> dict[str, int]:
    memory = process.Memory.of(os.getpid())
    return {"rss": memory.rss, "pss": memory.pss, "tensors": tensors}


def adapter_bytes(backbone: Any, seed: int) -> bytes:
    """The bytes of an adapter file with random factors on the layers that training would choose."""
    import torch

    from lensmount_adapters import Manifest, dump_adapter
    from lensmount_adapters.adapter.manifest import Factors, LinearHead
    from lensmount_adapters.delta.initial import fresh_low_rank
    from lensmount_adapters.delta.targets import select_targets

    draw = torch.Generator().manual_seed(seed)
    targets = select_targets(backbone.name, backbone.targets, "lora").low_rank
    tensors = {"head.weight": torch.randn(2, backbone.feature_dim, generator=draw) / 32, "head.bias": torch.zeros(2)}
    for target in targets:
        drawn = fresh_low_rank(target, RANK, 1.0, draw).tensors()
        tensors |= {name: torch.randn(factor.shape, generator=draw) / 20 for name, factor in drawn.items()}
    manifest = Manifest(
        name=f"task-{seed}",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("no", "yes"),
        head=LinearHead(),
        modules={target.module: Factors(rank=RANK, alpha=RANK) for target in targets},
    )
    return dump_adapter(manifest, tensors)


def _nbytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


if __name__ == "__main__":
    main()
