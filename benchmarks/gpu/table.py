"""The table of one run: its figures and what became of each check, as JSON after every figure and as Markdown."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .goals import NONE, Goal

FORMAT = 1
DIGITS = 4  # that mean anything


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `met` is None where the figure has no goal, and in a dry run."""

    check: str
    figure: str
    value: float | None  # None for a value that is not a finite number
    unit: str
    goal: str
    met: bool | None
    limit: str


@dataclass(frozen=True, slots=True)
class State:
    """What became of a check: "done", "failed" or "left out"; `remark` says why, or what it did not have time for."""

    state: str
    seconds: float
    remark: str = ""


@dataclass(slots=True)
class Table:
    """`Table(folder, head).row("forward", "batch 1", 0.3, "ms")`; `gpu.json` is complete after every call.

    `judged` is False in a dry run, whose figures mean nothing.
    """

    folder: Path
    head: dict[str, str]
    judged: bool = True
    rows: list[Row] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def row(self, check: str, figure: str, value: float, unit: str = "", goal: Goal = NONE) -> None:
        finite = math.isfinite(value)
        kept = float(f"{value:.{DIGITS}g}") if finite else None
        met = goal.is_met(value) if self.judged and str(goal) else None
        self.rows.append(Row(check, figure, kept, unit, str(goal), met, goal.limit))
        print(f"{check:10} {figure:70} {_number(kept):>10} {unit:9} {goal}", flush=True)
        self.write()

    def end(self, check: str, state: State) -> None:
        self.states[check] = state
        print(f"{check}: {state.state} after {state.seconds:.1f} s {state.remark}".rstrip(), flush=True)
        self.write()

    def write(self) -> None:
        document = {
            "format": FORMAT,
            "head": self.head,
            "checks": {name: asdict(state) for name, state in self.states.items()},
            "rows": [asdict(row) for row in self.rows],
        }
        _replace(self.folder / "gpu.json", json.dumps(document, indent=1) + "\n")
        _replace(self.folder / "gpu.md", self.markdown())

    def markdown(self) -> str:
        lines = ["# GPU figures", "", "Measured by `python -m benchmarks.gpu`; goals and limits are those of one H100."]
        lines += ["", "| machine | |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in self.head.items()]
        lines += ["", "| check | figure | value | unit | goal | met | limit or best known |"]
        lines += ["|---|---|---:|---|---|---|---|"]
        for row in self.rows:
            met = {None: "", True: "yes", False: "no"}[row.met]
            cells = (row.check, row.figure, _number(row.value), row.unit, row.goal, met, row.limit)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        lines += ["", "| check | result | seconds | remark |", "|---|---|---:|---|"]
        for name, state in self.states.items():
            lines.append(f"| {name} | {state.state} | {state.seconds:.1f} | {_cell(state.remark)} |")
        return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _replace(path: Path, text: str) -> None:
    """The file is always complete, even if the run is killed."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)
