"""How large an adapter of each rank gets on a backbone: a Markdown table by layer, and one chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.target import Target
from lensmount_adapters.delta.sizes import (
    full_size,
    low_rank_break_even,
    takes_tucker,
    trained_size,
    tucker_break_even,
    tucker_crossover,
)
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError


@dataclass(frozen=True, slots=True)
class SizeTable:
    """`size_table("resnet34", ranks=(4, 8, 16)).markdown()`: how many numbers are stored, without the head.

    `targets` are weights that take low-rank deltas; each layer is counted with the rank that training would give it.
    """

    backbone: str
    targets: tuple[Target, ...]
    ranks: tuple[int, ...]

    def total(self, rank: int, *, tucker: bool) -> int:
        return sum(trained_size(target, rank, tucker=tucker) for target in self.targets)

    @property
    def full(self) -> int:
        return sum(full_size(target) for target in self.targets)

    def markdown(self) -> str:
        """One row per layer and one of totals; a break-even rank is the first at which a form is no longer smaller."""
        methods = [f"{method} {rank}" for rank in self.ranks for method in ("lora", "lora-tucker")]
        heads = ["layer", "weight", "full", *methods, "lora = full", "tucker = full", "tucker = lora"]
        rows = [_row(heads), _row(["---", "---", *["---:"] * (len(heads) - 2)])]
        rows += [_row([t.module, "x".join(map(str, t.shape)), *self._figures(t)]) for t in self.targets]
        totals = [self.total(rank, tucker=tucker) for rank in self.ranks for tucker in (False, True)]
        rows.append(_row(["total", f"{len(self.targets)} layers", *_counts([self.full, *totals]), "", "", ""]))
        return "\n".join(rows) + "\n"

    def _figures(self, target: Target) -> list[str]:
        sizes = [trained_size(target, rank, tucker=tucker) for rank in self.ranks for tucker in (False, True)]
        tucker = [tucker_break_even(target), tucker_crossover(target)] if takes_tucker(target) else []
        return _counts([full_size(target), *sizes, low_rank_break_even(target), *tucker]) + [""] * (2 - len(tucker))

    def write(self, path: Path) -> Path:
        """Write the table (.md) or draw the chart (.png, .svg), by the suffix; raises TrainingError for another one."""
        if path.suffix == ".md":
            path.write_text(f"# {self.backbone}\n\n{self.markdown()}", encoding="utf-8")
        elif path.suffix in (".png", ".svg"):
            self._draw(path)
        else:
            raise TrainingError(f"found --out {path.name}, expected a name that ends in .md, .png or .svg")
        return path

    def _draw(self, path: Path) -> None:
        """Stored numbers over rank, both on log scales, up to the rank at which the last layer breaks even."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        ranks = _up_to(max(*self.ranks, *(low_rank_break_even(target) for target in self.targets)))
        for name, tucker, color in (("lora: kxk+1x1", False, "C0"), ("lora-tucker: 1x1, kxk, 1x1", True, "C1")):
            axes.plot(ranks, [self.total(rank, tucker=tucker) for rank in ranks], color=color, label=name)
            axes.plot(self.ranks, [self.total(rank, tucker=tucker) for rank in self.ranks], "o", color=color)
        axes.axhline(self.full, color="grey", linestyle="--", label="full weights")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("rank")
        axes.set_ylabel("numbers")
        axes.set_title(f"{self.backbone}, {len(self.targets)} layers", parse_math=False)
        axes.legend(loc="lower right")
        figure.savefig(path, dpi=120)


def size_table(backbone: str, ranks: Sequence[int], expression: str | None = None) -> SizeTable:
    """The table of a timm model's layers that `lensmount train` would adapt, or of those that `expression` matches.

    Raises BackboneError for an unknown name and TrainingError if the expression matches nothing.
    """
    targets = load_backbone(backbone, "random:0").targets  # only their shapes matter
    chosen = select_targets(backbone, targets, "lora", expression)
    return SizeTable(backbone, chosen.low_rank, tuple(sorted(set(ranks))))


def _up_to(last: int) -> Sequence[int]:
    """1 to `last`, about ten ranks per doubling."""
    return sorted(
        {round(2 ** (step / 10)) for step in range(10 * last.bit_length()) if 2 ** (step / 10) <= last} | {last}
    )


def _counts(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
