"""Run the checks in order of worth, within a budget, and write one table.

    python -m benchmarks.gpu --out build/gpu [--budget-s 540] [--only forward switch] [--dry-run]

`gpu.json` and `gpu.md` in the folder are complete after every figure. A check that fails does not stop the others, and
one that no longer fits into the budget is left out; the table says so. The exit status is 1 if a check failed.
`--dry-run` runs every check on the CPU with a tiny network and two repeats: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from . import (
    autotune,
    card,
    decode,
    forward,
    integrity,
    kernels,
    marked_tests,
    memory,
    mixed,
    serving,
    short_memory,
    switch,
    training,
    transfer,
)
from .bench import Bench, Check
from .clock import Clock
from .table import State, Table

CHECKS = (
    Check("card", 10, card.measure),
    Check("forward", 40, forward.measure),
    Check("switch", 15, switch.measure),
    Check("mixed", 20, mixed.measure),
    Check("kernels", 10, kernels.measure),
    Check("tests", 60, marked_tests.measure),
    Check("transfer", 5, transfer.measure),
    Check("decode", 10, decode.measure),
    Check("memory", 15, memory.measure),
    Check("short memory", 15, short_memory.measure),
    Check("integrity", 5, integrity.measure),
    Check("training", 15, training.measure),
    Check("serving", 75, serving.measure),
    Check("autotune", 60, autotune.measure),
)
GRACE_S = 10.0  # beyond the budget, before a check that hangs is given up


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        print("found no CUDA device, expected one. Fix: run this on a machine with a GPU, or add --dry-run")
        return 2
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device("cpu" if options.dry_run else "cuda")
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(options.out, card.head(device), judged=not options.dry_run)
    bench = Bench(table, Clock(device, options.dry_run), time.monotonic() + options.budget_s)
    watchdog = _watchdog(bench)
    try:
        run(bench, [check for check in CHECKS if check.name in options.only])
    finally:
        watchdog.cancel()
    print(f"\n{table.markdown()}")
    return int(any(state.state == "failed" for state in table.states.values()))


def run(bench: Bench, checks: Sequence[Check]) -> None:
    for check in checks:
        left_s = bench.left_s()
        if left_s < check.needs_s:
            remark = f"{max(0.0, left_s):.0f} s were left and it needs {check.needs_s:.0f} s"
            bench.table.end(check.name, State("left out", 0.0, remark))
            continue
        started = time.monotonic()
        state, remark = _attempt(bench, check)
        bench.table.end(check.name, State(state, time.monotonic() - started, remark))
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def _attempt(bench: Bench, check: Check) -> tuple[str, str]:
    bench.check, bench.remarks = check.name, []
    try:
        with warnings.catch_warnings(action="ignore"):
            check.measure(bench)
    except Exception as error:  # the outermost loop: one failing check must not stop the others
        return "failed", "; ".join([*bench.remarks, f"{type(error).__name__}: {str(error)[:1000]}"])
    return "done", "; ".join(bench.remarks)


def _watchdog(bench: Bench) -> threading.Timer:
    """A kernel that hangs cannot be interrupted: end the process, after writing down which check it was."""

    def give_up() -> None:
        bench.table.end(
            bench.check, State("failed", 0.0, "still running when the budget was spent; the run ended here")
        )
        sys.stdout.flush()
        os._exit(3)

    timer = threading.Timer(max(0.0, bench.left_s()) + GRACE_S, give_up)
    timer.daemon = True
    timer.start()
    return timer


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where gpu.json and gpu.md go")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds for all checks (540)")
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="run these checks alone")
    parser.add_argument("--threads", type=int, help="torch's threads on the host")
    parser.add_argument("--dry-run", action="store_true", help="every check on the CPU with a tiny network")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
