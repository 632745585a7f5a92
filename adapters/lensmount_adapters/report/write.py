"""Report on an adapter: tables for the terminal, `metrics.json`, `metrics.png`, the card and the HTML report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.classification import ClassificationMetrics
from lensmount_adapters.metrics.roc import roc_curves
from lensmount_adapters.metrics.scored import ScoredPart, decisive_part
from lensmount_adapters.report.card import model_card
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.findings import find
from lensmount_adapters.report.html import html_report
from lensmount_adapters.report.record import read_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

MAX_MATRIX = 20  # classes whose names and counts fit into the figure


def tables(title: str, metrics: ClassificationMetrics) -> list[RenderableType]:
    """The metrics as rich renderables: headline, one row per class and, of at most 20 classes, the confusion matrix."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    auroc = "n/a" if metrics.auroc is None else f"{metrics.auroc:.4f}"
    headline = Text(
        f"{title}: {metrics.count} images, accuracy {metrics.accuracy:.4f}, "
        f"balanced accuracy {metrics.balanced_accuracy:.4f}, AUROC {auroc}"
    )
    per_class = Table("class", "precision", "recall", "F1", "AUROC", "images")
    for row in metrics.classes:
        values = (row.precision, row.recall, row.f1, row.auroc)
        per_class.add_row(escape(row.label), *("n/a" if v is None else f"{v:.4f}" for v in values), str(row.count))
    if len(metrics.classes) > MAX_MATRIX:
        return [headline, per_class]
    confusion = Table("truth \\ prediction", *(escape(row.label) for row in metrics.classes), title="confusion matrix")
    for row, counts in zip(metrics.classes, metrics.confusion, strict=True):
        confusion.add_row(escape(row.label), *map(str, counts))
    return [headline, per_class, confusion]


def write_run_report(
    folder: Path,
    manifest: Manifest,
    digest: str,
    size_bytes: int,
    parts: Mapping[str, ScoredPart],
    read: Callable[[str], bytes],
    context: ReportContext | None = None,
) -> list[Path]:
    """Write `metrics.json`, `metrics.png`, `card.md` and `report.html` of a training run; returns the paths.

    `folder` is made if it does not exist. Without any scored part there is no `metrics.png`. The scores of `parts`
    ("validation", "test") come from the written file. `read` gives the bytes of the image at one of their paths; if it
    raises, the report goes without that image.
    Raises OSError.
    """
    context = context or ReportContext()
    record = read_record(manifest)
    document = {
        "adapter": {"name": manifest.name, "digest": digest, "size_bytes": size_bytes},
        "backbone": manifest.backbone.model_dump(mode="json"),
        "data": {"name": record.data_name, "digest": record.data_digest},
        "metrics": {part: scored.metrics.to_json() for part, scored in parts.items()},
        "calibration": {part: calibration(scored.truth, scored.scores).to_json() for part, scored in parts.items()},
    }
    written = write_metrics(folder, document | found_json(manifest, parts, context), parts)
    card = model_card(manifest, digest, size_bytes, parts, context=context)
    page = html_report(manifest, digest, size_bytes, parts, read, context)
    return [*written, _write_text(folder / "card.md", card), _write_text(folder / "report.html", page)]


def write_evaluation_report(
    folder: Path,
    document: dict[str, Any],
    manifest: Manifest,
    size_bytes: int,
    parts: Mapping[str, ScoredPart],
    read: Callable[[str], bytes],
    context: ReportContext | None = None,
) -> list[Path]:
    """Write `metrics.json` (the document), `metrics.png` and `report.html` of an evaluation; returns the paths."""
    written = write_metrics(folder, document, parts)
    page = html_report(manifest, document["adapter"]["digest"], size_bytes, parts, read, context)
    return [*written, _write_text(folder / "report.html", page)]


def found_json(manifest: Manifest, parts: Mapping[str, ScoredPart], context: ReportContext) -> dict[str, Any]:
    """What `metrics.json` has of the findings: the date, the warnings, the positive label and the version before."""
    found = find(manifest, read_record(manifest), parts, context)
    document: dict[str, Any] = {"date": context.written.isoformat(), "warnings": list(found.warnings)}
    if found.part is not None:
        document["trust"] = parts[found.part].assessed
    if found.point is not None:
        document["diagnostic"] = found.point.to_json()
    if context.before is not None:
        document["before"] = {
            "adapter": {"name": context.before.name, "digest": context.before.digest},
            **context.before.paired.to_json(),
        }
    return document


def write_metrics(folder: Path, document: dict[str, Any], parts: Mapping[str, ScoredPart]) -> list[Path]:
    """Write `metrics.json` (the document) and, for the decisive part, `metrics.png`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write_text(folder / "metrics.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")]
    part = decisive_part(parts)
    if part is not None:
        write_figure(folder / "metrics.png", parts[part])
        written.append(folder / "metrics.png")
    return written


def write_figure(path: Path, scored: ScoredPart) -> None:
    """Draw the confusion matrix next to the ROC curves, as a PNG; no display is needed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_confusion(left, scored.metrics)
    _draw_roc(right, scored)
    figure.suptitle(f"{scored.metrics.count} images, balanced accuracy {scored.metrics.balanced_accuracy:.3f}")
    figure.savefig(path, dpi=120)


def _draw_confusion(axes: Axes, metrics: ClassificationMetrics) -> None:
    labels = [_drawable(row.label) for row in metrics.classes]
    shares = [[n / max(1, sum(row)) for n in row] for row in metrics.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    if len(labels) > MAX_MATRIX:
        return
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    for i, row in enumerate(metrics.confusion):
        for j, n in enumerate(row):
            axes.text(j, i, str(n), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")


def _draw_roc(axes: Axes, scored: ScoredPart) -> None:
    curves = roc_curves(scored)
    for curve in curves:
        false_positive, true_positive = zip(*curve.points, strict=True)
        axes.plot(false_positive, true_positive, label=f"AUROC {curve.auroc:.3f}: {_drawable(curve.label)}")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    if curves:
        for text in axes.legend(loc="lower right").get_texts():
            text.set_parse_math(False)


def _drawable(label: str) -> str:
    """The label, shortened, with "?" for each character that the figure's font cannot draw."""
    text = "".join(character if character.isprintable() and ord(character) < 0x250 else "?" for character in label)
    return text if len(text) <= 24 else text[:21] + "..."


def _write_text(path: Path, text: str) -> Path:
    """Bytes of a file name that are not UTF-8 are written as backslash escapes."""
    write_atomic(path, text.encode("utf-8", "backslashreplace"))
    return path
