"""Draws the plots of docs/scaling.md from the committed tables.

python -m benchmarks.scale.plots [--results benchmarks/scale/results] [--out docs/images]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from benchmarks.scale.fleet import CLAIRVOYANT
from benchmarks.scale.routers.bounded import BoundedLoad
from benchmarks.scale.study import FOLDER, ROUTERS, SLO_S, Row, read
from benchmarks.scale.tiers import Tier
from matplotlib.figure import Figure

IMAGES = Path(__file__).parents[2] / "docs" / "images"
COLOURS = dict(zip(ROUTERS, ("#888888", "#e69f00", "#56b4e9", "#cc79a7", "#d55e00", "#009e73"), strict=True))
TIERS = dict(zip(Tier, ("#009e73", "#56b4e9", "#e69f00", "#d55e00"), strict=True))
SIZE = (7.0, 3.6)  # inches


def loads(rows: list[Row], axes: Any) -> None:
    """p99 by load, one line per router."""
    for name in ROUTERS:
        points = sorted((row.rate, row.p99) for row in rows if row.router == name)
        style = {"linestyle": "--"} if name == CLAIRVOYANT else {"linewidth": 3 if name == BoundedLoad.name else 1.5}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, color=COLOURS[name], **style)
    axes.axhline(1000 * SLO_S, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="requests per second and server", ylabel="p99, ms", yscale="log")
    axes.legend(fontsize=8, frameon=False)


def hits(rows: list[Row], axes: Any) -> None:
    """Where the adapter of a request was, by router."""
    chosen = {row.router: row for row in rows if row.zipf == 0.9 and row.cv == 1.0}
    left = dict.fromkeys(chosen, 0.0)
    for tier in Tier:
        shares = {name: 100 * float(getattr(row, str(tier))) for name, row in chosen.items()}
        axes.barh(list(shares), list(shares.values()), left=list(left.values()), color=TIERS[tier], label=str(tier))
        left = {name: left[name] + share for name, share in shares.items()}
    axes.invert_yaxis()
    axes.set(xlabel="% of the requests")
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def attainment(rows: list[Row], axes: Any) -> None:
    """Requests that miss the SLO, by zipf exponent, in bursts."""
    for name in ROUTERS:
        points = sorted(
            (row.zipf, max(1e-3, 100 * (1 - row.slo_requests))) for row in rows if row.router == name and row.cv > 1
        )
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name, color=COLOURS[name])
    axes.set(xlabel="zipf exponent", ylabel=f"% later than {1000 * SLO_S:.0f} ms", yscale="log")
    axes.legend(fontsize=8, frameon=False)


PLOTS: dict[str, tuple[str, Callable[[list[Row], Any], None]]] = {
    "scaling-load": ("loads", loads),
    "scaling-tiers": ("routers", hits),
    "scaling-slo": ("routers", attainment),
}


def draw(results: Path, out: Path) -> list[Path]:
    """One SVG for each plot, the same bytes for the same tables."""
    written = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lensmount", "font.family": "sans-serif"}):
        for name, (table, plot) in PLOTS.items():
            figure = Figure(figsize=SIZE, layout="constrained")
            axes = figure.subplots()
            axes.spines[["top", "right"]].set_visible(False)
            plot(read(results / f"{table}.csv"), axes)
            written.append(out / f"{name}.svg")
            figure.savefig(written[-1], metadata={"Date": None})
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args()
    for path in draw(options.results, options.out):
        print(path)


if __name__ == "__main__":
    main()
