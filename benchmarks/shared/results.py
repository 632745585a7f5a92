"""Results of a benchmark as rows of min, median and max: printed as Markdown and, on request, kept in results.json.

    rows = [Row.of("requests/s, ours / FastAPI, 16 connections", [3.9, 4.1, 4.4])]
    show(rows)
    write("serving", rows)          # replaces the section "serving" of results.json and leaves the others

Each section records when, on which machine, at which commit, and with which command and versions it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]  # benchmarks/
RESULTS = FOLDER / "results.json"
PACKAGES = ("torch", "torchvision", "timm", "openvino", "numpy", "pillow", "fastapi", "uvicorn", "litserve", "peft")
DIGITS = 4  # significant digits; more would be noise


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over several rounds. `unit` is "times" for a ratio; `goal` states the target in words."""

    what: str
    unit: str
    minimum: float
    median: float
    maximum: float
    rounds: int
    goal: str = ""

    @classmethod
    def of(cls, what: str, values: Sequence[float], unit: str = "times", goal: str = "") -> Row:
        return cls(what, unit, min(values), statistics.median(values), max(values), len(values), goal)


def ratios(what: str, above: Sequence[float], below: Sequence[float], goal: str = "") -> Row:
    """Ratios within each round, because a disturbance of a round affects both values."""
    return Row.of(what, [a / b for a, b in zip(above, below, strict=True)], goal=goal)


def show(rows: Sequence[Row]) -> None:
    print("| figure | unit | min | median | max | goal |\n|---|---|---:|---:|---:|---|")
    for row in rows:
        values = (f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}" for value in _values(row))
        print(f"| {row.what} | {row.unit} | {' | '.join(values)} | {row.goal} |")


def write(benchmark: str, rows: Sequence[Row], path: Path = RESULTS) -> None:
    """Replace the benchmark's section of the file atomically."""
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    document[benchmark] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "rows": [{key: _rounded(value) for key, value in asdict(row).items()} for row in rows],
    }
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    unfinished.replace(path)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--results`, which keeps the rows. Without it they are only printed, so a short trial overwrites nothing."""
    parser.add_argument(
        "--results",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="FILE",
        help="keep the rows in this file (benchmarks/results.json)",
    )


def finish(benchmark: str, rows: Sequence[Row], path: Path | None) -> None:
    """Print the rows, and keep them if `--results` was given."""
    show(rows)
    if path is not None:
        write(benchmark, rows, path)


def described() -> str:
    """One line about the machine, to print above a table."""
    found = machine()
    where = f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, {found['system']}"
    return f"{where}, load {found['load']}, commit {commit()}"


def machine() -> dict[str, str | float]:
    """Facts about the machine, read without torch because a load tool must stay small."""
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gb": round(int((_first("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else -1.0,
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("lensmount", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The current commit, with "+" if the working tree differs from it; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _first(file: str, name: str) -> str | None:
    """The value of the first line `name : value`."""
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _values(row: Row) -> tuple[float, float, float]:
    return row.minimum, row.median, row.maximum


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main() -> None:
    """Print everything in results.json as tables."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for benchmark, section in document.items():
        print(f"\n{benchmark} ({section['measured_at']}, {section['command']}, commit {section['commit']})\n")
        show([Row(**row) for row in section["rows"]])


if __name__ == "__main__":
    main()
