"""Show one evaluation: a table on the terminal, `metrics.json`, and a picture of confusion matrix and ROC curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn import metrics as sk
from torch import Tensor

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType


def tables(title: str, metrics: Metrics) -> list[RenderableType]:
    """The figures as rich renderables: a headline, a table a class, the confusion matrix."""
    from rich.table import Table
    from rich.text import Text

    auroc = "n/a" if metrics.auroc is None else f"{metrics.auroc:.4f}"
    headline = Text(
        f"{title}: {metrics.count} images, accuracy {metrics.accuracy:.4f}, "
        f"balanced accuracy {metrics.balanced_accuracy:.4f}, AUROC {auroc}"
    )
    per_class = Table("class", "precision", "recall", "F1", "AUROC", "images")
    for row in metrics.classes:
        figures = (row.precision, row.recall, row.f1, row.auroc)
        per_class.add_row(row.label, *("n/a" if f is None else f"{f:.4f}" for f in figures), str(row.count))
    confusion = Table("truth \\ answer", *(row.label for row in metrics.classes), title="confusion matrix")
    for row, counts in zip(metrics.classes, metrics.confusion, strict=True):
        confusion.add_row(row.label, *map(str, counts))
    return [headline, per_class, confusion]


def write_report(folder: Path, document: dict[str, Any], truth: Tensor, scores: Tensor, metrics: Metrics) -> list[Path]:
    """Write `metrics.json` (the document) and `metrics.png` into `folder`, made if need be; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    json_path, picture_path = folder / "metrics.json", folder / "metrics.png"
    write_atomic(json_path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    write_picture(picture_path, truth, scores, metrics)
    return [json_path, picture_path]


def write_picture(path: Path, truth: Tensor, scores: Tensor, metrics: Metrics) -> None:
    """Confusion matrix beside one ROC curve a class, as a PNG; no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_confusion(left, metrics)
    _draw_roc(right, truth, scores, metrics)
    figure.suptitle(f"{metrics.count} images, balanced accuracy {metrics.balanced_accuracy:.3f}")
    figure.savefig(path, dpi=120)


def _draw_confusion(axes: Axes, metrics: Metrics) -> None:
    labels = [row.label for row in metrics.classes]
    shares = [[n / max(1, sum(row)) for n in row] for row in metrics.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    for i, row in enumerate(metrics.confusion):
        for j, n in enumerate(row):
            axes.text(j, i, str(n), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")


def _draw_roc(axes: Axes, truth: Tensor, scores: Tensor, metrics: Metrics) -> None:
    curves = _curves(metrics)
    for index, label in curves:
        false_positive, true_positive, _ = sk.roc_curve((truth == index).numpy(), scores[:, index].double().numpy())
        axes.plot(false_positive, true_positive, label=f"{label} (AUROC {metrics.classes[index].auroc:.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    if curves:
        axes.legend(loc="lower right")


def _curves(metrics: Metrics) -> Sequence[tuple[int, str]]:
    """The classes with a curve; of two classes the second, the first being its mirror image."""
    defined = [(index, row.label) for index, row in enumerate(metrics.classes) if row.auroc is not None]
    return defined[1:] if len(metrics.classes) == 2 else defined
