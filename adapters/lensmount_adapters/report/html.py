"""The report on one run as one self-contained HTML page: metrics, charts, the worst mistakes, how it was made.

Everything on the page may come from strangers (labels, paths, the training record). So the template escapes everything,
and the page's content security policy forbids scripts and requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.classification import ClassificationMetrics
from lensmount_adapters.metrics.diagnostic import diagnose_each
from lensmount_adapters.metrics.roc import roc_curves
from lensmount_adapters.metrics.scored import ScoredPart, worst_mistakes
from lensmount_adapters.metrics.share import Share
from lensmount_adapters.report.card import duration, method_of
from lensmount_adapters.report.charts import SHARE, Axis, ChartLine, line_chart, reliability_chart
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.effective import effective_settings, effective_split
from lensmount_adapters.report.findings import find
from lensmount_adapters.report.pictures import MAX_HEAT_MAPS, HeatMap, Read, heat, picture, sample_images
from lensmount_adapters.report.record import EpochFigures, TrainingRecord, flatten, read_record
from lensmount_adapters.report.thumbnail import heat_map

MAX_MISTAKES = 24
MAX_MATRIX = 20  # classes whose confusion matrix is written out
MAX_CLASSES = 40  # rows of the table of classes
MAX_PAIRS = 20  # confusions listed next to the heat map of a large matrix


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as SVG with its caption; `legend` names the lines by their number in the palette."""

    svg: Markup
    caption: str
    legend: tuple[tuple[int, str], ...] = ()


def html_report(
    manifest: Manifest,
    digest: str,
    size_bytes: int,
    parts: Mapping[str, ScoredPart],
    read: Callable[[str], bytes],
    context: ReportContext | None = None,
) -> str:
    """The page. Charts and images show the test part; without one, validation; otherwise the first part.

    `read` gives the bytes of an image file; an image whose file cannot be read is listed without it.
    """
    context = context or ReportContext()
    record = read_record(manifest)
    found = find(manifest, record, parts, context)
    part = found.part
    scored = None if part is None else parts[part]
    samples = [] if scored is None else sample_images(scored, read, context.heat_map)
    return _template().render(
        manifest=manifest,
        digest=digest,
        size_bytes=size_bytes,
        record=record,
        method=method_of(manifest),
        duration=None if record.seconds is None else duration(record.seconds),
        found=found,
        notes=context.notes,
        gate=None if context.gate is None else dict(context.gate),
        gate_rows=_gate_rows(context.gate or {}),
        part=part,
        headline=None if scored is None or part is None else _headline(part, scored),
        rows=[_row(name, known) for name, known in parts.items()],
        learning=_learning(record),
        classes=None if scored is None else _classes(scored.metrics),
        confusion=None if scored is None else _confusion(scored.metrics),
        roc=None if scored is None else _roc(scored),
        reliability=None if scored is None else _reliability(scored, manifest.head.temperature),
        samples=samples,
        heated=any(sample.heat for _, images in samples for sample in images),
        mistakes=[] if scored is None else _mistakes(scored, read, context.heat_map),
        misclassified=0 if scored is None else _misclassified(scored.metrics),
        cost=_cost(record, size_bytes),
        file_rows=_file_rows(manifest, digest, size_bytes),
        run_rows=_run_rows(record),
        settings=effective_settings(manifest),
        split_rows=effective_split(manifest),
        numeric=numeric,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("lensmount_adapters.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def numeric(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


# The images of a part, and what to expect of its figures
_PARTS = {
    "test": ("held-out images", ""),
    "validation": (
        "validation images",
        " These images chose the epoch and the temperature, so expect slightly lower figures on new images.",
    ),
    "calibration": ("images that measured the promises", ""),
    "train": ("training images", " Expect lower figures on new images."),
    "all": ("images", ""),
}


def _headline(part: str, scored: ScoredPart) -> str:
    metrics = scored.metrics
    share = Share(metrics.count - _misclassified(metrics), metrics.count)
    images, note = _PARTS.get(part, (f"images of the part {part}", ""))
    return (
        f"{share.count:,} of {share.of:,} {images} classified correctly: accuracy {share.value:.3f} "
        f"(95 % interval {share.low:.3f} to {share.high:.3f}).{note}"
    )


def _row(part: str, scored: ScoredPart) -> dict[str, Any]:
    """One row of the table of parts."""
    metrics = scored.metrics
    share = Share(metrics.count - _misclassified(metrics), metrics.count)
    return {
        "part": part,
        "count": metrics.count,
        "accuracy": share,
        "balanced_accuracy": metrics.balanced_accuracy,
        "auroc": metrics.auroc,
        "log_loss": metrics.log_loss,
        "error": calibration(scored.truth, scored.scores).error,
    }


def _misclassified(metrics: ClassificationMetrics) -> int:
    return metrics.count - sum(row[index] for index, row in enumerate(metrics.confusion))


# Charts


def _learning(record: TrainingRecord) -> list[Chart]:
    """Loss and accuracy over the epochs; a value that was never recorded has no line."""
    charts = []
    for name, curves in (
        ("loss", (("training", _loss), ("validation", _validation_loss))),
        ("accuracy", (("training", _accuracy), ("validation, balanced", _validation_accuracy))),
    ):
        series = [
            (text, [(float(e.epoch), v) for e in record.history if (v := value_of(e)) is not None])
            for text, value_of in curves
        ]
        lines = [ChartLine(text, tuple(points), kind) for kind, (text, points) in enumerate(series) if points]
        if not lines:
            continue
        values = [value for line in lines for _, value in line.points]
        x = Axis.over("epoch", 1, len(record.history), integers=True)
        y = Axis.over(name, 0, max(values)) if name == "loss" else Axis.over(name, min(0.9, *values), 1.0)
        best = record.best_epoch if record.best_epoch and record.best_epoch <= len(record.history) else None
        ends = "; ".join(f"{line.label}: from {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}" for line in lines)
        title = f"{name.capitalize()} over {len(record.history)} epochs. {ends}."
        caption = f"{name.capitalize()} by epoch" + (
            f"; the dots mark epoch {best}, whose weights are in the file" if best else ""
        )
        legend = tuple((line.kind, line.label) for line in lines)
        charts.append(Chart(line_chart(f"learning-{name}", title, lines, x, y, best), caption + ".", legend))
    return charts


def _loss(line: EpochFigures) -> float | None:
    return line.loss


def _validation_loss(line: EpochFigures) -> float | None:
    return line.validation_loss


def _accuracy(line: EpochFigures) -> float | None:
    return line.accuracy


def _validation_accuracy(line: EpochFigures) -> float | None:
    return line.validation_balanced_accuracy


def _roc(scored: ScoredPart) -> Chart | None:
    curves = roc_curves(scored)
    if not curves:
        return None
    legend = tuple((kind, f"{curve.label}, AUROC {curve.auroc:.3f}") for kind, curve in enumerate(curves))
    lines = [ChartLine("chance", ((0.0, 0.0), (1.0, 1.0)), -1)]
    lines += [ChartLine(text, curve.points, kind) for (kind, text), curve in zip(legend, curves, strict=True)]
    x, y = Axis("false positive rate", 0, 1, SHARE), Axis("true positive rate", 0, 1, SHARE)
    title = "ROC curves. " + "; ".join(text for _, text in legend) + "."
    known = sum(row.auroc is not None for row in scored.metrics.classes)
    caption = "ROC: true positive rate over false positive rate for every threshold on the class's score."
    if 2 < known > len(curves):
        caption += f" Shown: the {len(curves)} of {known:,} classes with the lowest AUROC."
    return Chart(line_chart("roc", title, lines, x, y), caption, legend)


def _reliability(scored: ScoredPart, temperature: float) -> Chart:
    measured = calibration(scored.truth, scored.scores)
    title = f"Reliability diagram, expected calibration error {measured.error:.3f} in {len(measured.bins)} bins."
    caption = (
        f"Expected calibration error {measured.error:.3f} (temperature {temperature:g}). Each bar is the accuracy of "
        "the predictions in one confidence bin; its tick is their mean confidence. The closer the two are, the better "
        "the scores can be read as probabilities. The bars below the axis show the number of images."
    )
    return Chart(reliability_chart("reliability", title, measured), caption)


# Tables


def _classes(metrics: ClassificationMetrics) -> dict[str, Any]:
    """One row per class with its shares; of many classes only those with the lowest recall."""
    shares = diagnose_each(metrics.confusion, [row.label for row in metrics.classes])
    rows = list(zip(metrics.classes, shares, strict=True))
    if len(rows) > MAX_CLASSES:
        rows = sorted(rows, key=lambda row: (row[0].count == 0, row[0].recall))[:MAX_CLASSES]
    return {"rows": rows, "total": len(metrics.classes)}


def _confusion(metrics: ClassificationMetrics) -> dict[str, Any]:
    """The matrix as a table or, if it is large, as a heat map with the most frequent confusions."""
    labels = [row.label for row in metrics.classes]
    counts = np.array(metrics.confusion)  # [classes, classes]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    if len(labels) <= MAX_MATRIX:
        rows = [
            (label, [(int(n), round(float(share), 3)) for n, share in zip(row, part, strict=True)])
            for label, row, part in zip(labels, counts, shares, strict=True)
        ]
        return {"labels": labels, "rows": rows, "image": None, "pairs": []}
    confused = counts.copy()
    np.fill_diagonal(confused, 0)
    order = np.argsort(-confused, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [
        {"truth": labels[i], "prediction": labels[j], "share": Share(int(confused[i, j]), int(counts[i].sum()))}
        for i, j in zip(*np.unravel_index(order, confused.shape), strict=True)
        if confused[i, j]
    ]
    return {"labels": labels, "rows": [], "image": heat_map(shares), "pairs": pairs}


def _file_rows(manifest: Manifest, digest: str, size_bytes: int) -> dict[str, str]:
    rows = {
        "digest": digest,
        "size": f"{size_bytes:,} bytes",
        "backbone": manifest.backbone.name,
        "fingerprint of the backbone": manifest.backbone.fingerprint,
        "method": method_of(manifest),
        "adapted modules": str(len(manifest.modules)),
        "labels": f"{len(manifest.labels):,}",
        "input": str(manifest.preprocessing),
        "temperature": f"{manifest.head.temperature:g}",
        "licence": manifest.license,
    }
    return {name: value for name, value in rows.items() if value}


def _gate_rows(gate: Mapping[str, Any]) -> dict[str, str]:
    return flatten({key: value for key, value in gate.items() if key not in ("passed", "reason") and value is not None})


def _run_rows(record: TrainingRecord) -> dict[str, str]:
    time = {} if record.seconds is None else {"duration": duration(record.seconds)}
    return time | dict(record.run)


def _mistakes(scored: ScoredPart, read: Read, heat_map: HeatMap | None) -> list[dict[str, Any]]:
    return [
        asdict(mistake)
        | {
            "image": picture(read, mistake.path),
            "heat": heat(heat_map, mistake.path) if rank < MAX_HEAT_MAPS else None,
        }
        for rank, mistake in enumerate(worst_mistakes(scored, MAX_MISTAKES))
    ]


def _cost(record: TrainingRecord, size_bytes: int) -> dict[str, Any] | None:
    """The adapter compared with a fine-tuned copy of the whole backbone."""
    trained, full = record.trainable_parameters, record.full_parameters
    if trained is None or not full or record.full_bytes is None:
        return None
    return {
        "trained": trained,
        "full": full,
        "parameter_share": trained / full,
        "size_bytes": size_bytes,
        "full_bytes": record.full_bytes,
        "size_share": size_bytes / record.full_bytes,
        "ratio": record.full_size_ratio(size_bytes),
    }
