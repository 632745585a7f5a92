"""Time of one image without HTTP: decoding, preprocessing and one engine call, in one thread of one process.

`serving.py` runs it in each round. The server's time divided by this one shows what HTTP, the queue and the threads
add. The engine is the one that the server uses, with the shipped adapter hot.

    python benchmarks/peers/bare.py [--adapter histology] [--threads 1] [--duration 10] FILE.jpg ...
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lensmount_adapters import Adapter, admit, load_backbone
from lensmount_adapters.inputs.prepare import prepare
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SegmentRunner

ZOO = Path(__file__).parents[2] / "adapters" / "zoo"


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--adapter", default="histology")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--duration", type=float, default=10.0, metavar="S")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = load_backbone()
    runner = SegmentRunner(backbone, choose_executor("auto", "auto", "cpu", options.threads, None))
    adapter = admit((ZOO / f"{options.adapter}.safetensors").read_bytes(), backbone)
    runner.prefetch(adapter)
    runner.settle()
    runner.settle()
    rule = adapter.manifest.preprocessing
    seconds: list[float] = []
    started = time.perf_counter()
    for data in itertools.cycle([file.read_bytes() for file in options.files]):
        before = time.perf_counter()
        runner.scores([Question(adapter, prepare(data, [rule]).inputs[rule])])
        after = time.perf_counter()
        if after - started > options.duration / 4:  # the first quarter warms up
            seconds.append(after - before)
        if after - started > options.duration:
            break
    runner.close()
    print(json.dumps({"p50": 1000 * statistics.median(seconds), "images": len(seconds)}))


if __name__ == "__main__":
    main()
