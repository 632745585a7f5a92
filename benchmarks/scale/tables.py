"""Writes the tables of docs/scaling.md from the committed results, between the comments that name them.

python -m benchmarks.scale.tables [--results benchmarks/scale/results] [--doc docs/scaling.md]
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.scale.costs import MachineCosts
from benchmarks.scale.fleet import Fleet
from benchmarks.scale.routers.bounded import BoundedLoad
from benchmarks.scale.routers.hashing import Rendezvous
from benchmarks.scale.study import FOLDER, ROUTERS, Row, read

DOC = Path(__file__).parents[2] / "docs" / "scaling.md"
SLO = 0.99  # of the requests, in the table of the most that a fleet answers
MILLION = 1e6
END = "<!-- end -->"


def machine(results: Path) -> str:
    """What one server costs and holds."""
    costs = MachineCosts.read()
    fleet = Fleet(1, costs, Rendezvous(1, 1))
    groups = ("trunk", "hot", "merged", "mixed", "whole", "batch")
    rows = [
        [name, f"{1000 * getattr(costs, name).fixed:.1f}", f"{1000 * getattr(costs, name).per_image:.1f}"]
        for name in groups
    ]
    single = {
        "merging an adapter's weights": costs.merge_s,
        "packing an adapter's factors": costs.pack_s,
        "Python's work on a request": costs.request_s,
        "admission of a file": costs.admit_s,
        "a hot program, in the background": costs.bind_s,
        "the object store (assumed)": costs.fetch_s,
    }
    rows += [[name, f"{1000 * seconds:.1f}", ""] for name, seconds in single.items()]
    told = ", ".join(costs.measured[name] for name in ("processor", "executor", "precision"))
    return (
        f"Measured on {costs.measured['on']}: {told}, one thread. While Python works all the time, the engine takes "
        f"{1 + costs.contention:.2f} times as long. {fleet.in_memory:,} adapters fit in memory and {fleet.hot_places} "
        "hot programs.\n\n" + table(["cost", "ms", "ms for each image or adapter"], rows)
    )


def routers(results: Path) -> str:
    """All routers at one load."""
    rows = [
        [
            f"{row.zipf:g}, {row.cv:g}",
            bold(row.router),
            *(f"{100 * share:.0f}" for share in (row.hot, row.memory, row.file, row.remote)),
            *(f"{row.p50:,.0f}", f"{row.p99:,.0f}"),
            *(f"{100 * share:.1f}" for share in (row.slo_requests, row.slo_adapters)),
            f"{row.engine_ms:.1f}",
            f"{MILLION * row.engine_ms / 1000 / 3600:.1f}",
            f"{row.refused:,}; {row.failed:,}",
        ]
        for row in read(results / "routers.csv")
    ]
    heads = ["zipf, CV", "router", "hot %", "memory %", "file %", "store %", "p50 ms", "p99 ms"]
    heads += ["SLO, requests %", "SLO, adapters %", "engine ms per image", "engine hours a million", "refused; failed"]
    return size(read(results / "routers.csv")) + table(heads, rows)


def loads(results: Path) -> str:
    """The highest of the tried loads with which each router meets the SLO, and the servers for a million images."""
    found = read(results / "loads.csv")
    rows = []
    for name in ROUTERS:
        met = [row for row in found if row.router == name and row.slo_requests >= SLO]
        most = max(met, key=lambda row: row.rate, default=None)
        lost = sorted((row for row in found if row.router == name and row.slo_requests < SLO), key=lambda row: row.rate)
        rows.append(
            [
                bold(name),
                f"{most.rate:.0f}" if most else f"below {found[0].rate:.0f}",
                f"{MILLION / most.rate / 3600:.1f}" if most else "",
                f"{lost[0].rate:.0f}: {100 * lost[0].slo_requests:.1f}" if lost else "none tried",
            ]
        )
    return size(found) + table(
        ["router", "requests/s and server", "server hours a million", "missed first at: % in time"], rows
    )


def bound(results: Path) -> str:
    """The knobs of our router."""
    if not (results / "bound.csv").exists():
        return "Not simulated yet with these costs."
    rows = [
        [
            *(f"{row.zipf:g}", str(row.least), "1" if row.pairs == 1 else "all"),
            *(f"{100 * share:.0f}" for share in (row.hot, row.memory, row.file, row.remote)),
            *(f"{row.p50:,.0f}", f"{row.p99:,.0f}", f"{row.engine_ms:.1f}"),
        ]
        for row in read(results / "bound.csv")
    ]
    heads = [
        "zipf",
        "least",
        "pairs",
        "hot %",
        "memory %",
        "file %",
        "store %",
        "p50 ms",
        "p99 ms",
        "engine ms per image",
    ]
    return size(read(results / "bound.csv")) + table(heads, rows)


def validation(results: Path) -> str:
    """The real server and its twin."""
    path = results / "validation.csv"
    if not path.exists():
        return "Not measured yet on an idle machine."
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))

    def far(line: dict[str, str], figure: str) -> str:
        return f"{100 * (float(line[f'simulated_{figure}']) / float(line[f'server_{figure}']) - 1):+.0f} %"

    rows = [
        [
            *(
                line["number"],
                f"{line['adapters']} {line['mix']}",
                f"{float(line['cv']):g}",
                f"{float(line['rate']):.0f}",
            ),
            *(f"{float(line['server_per_s']):.1f}", far(line, "per_s")),
            *(
                f"{float(line['server_p50']):.0f}",
                far(line, "p50"),
                f"{float(line['server_p99']):.0f}",
                far(line, "p99"),
            ),
        ]
        for line in lines
    ]
    heads = ["", "adapters", "CV", "offered/s", "answered/s", "simulated", "p50 ms", "simulated", "p99 ms", "simulated"]
    return table(heads, rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "machine": machine,
    "validation": validation,
    "routers": routers,
    "loads": loads,
    "bound": bound,
}


def written(text: str, results: Path) -> str:
    """The text with each table as the results have it now."""
    for name, made in TABLES.items():
        mark = f"<!-- table {name} -->"
        before, found, behind = text.partition(mark)
        _, end, after = behind.partition(END)
        if not found or not end:
            raise SystemExit(f"found no {mark} and {END} in the document. Fix: add them where the table belongs")
        text = f"{before}{mark}\n\n{made(results)}\n\n{END}{after}"
    return text


def size(rows: Sequence[Row]) -> str:
    """The sentence about the size of the runs."""
    first = rows[0]
    return f"{first.servers:,} servers, {first.adapters:,} adapters, {first.requests:,} requests in each run.\n\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---" if any(not is_number(row[place]) for row in rows) else "---:" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d,.]*( %)?", cell) is not None


def bold(name: str) -> str:
    return f"**{name}**" if name == BoundedLoad.name else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--doc", type=Path, default=DOC)
    options = parser.parse_args()
    options.doc.write_text(written(options.doc.read_text(), options.results))


if __name__ == "__main__":
    main()
