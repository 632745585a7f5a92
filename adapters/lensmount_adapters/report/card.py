"""The model card of an adapter in Markdown: what it is, how accurate it is, its data and how it was made.

After Mitchell et al. 2019, "Model cards for model reporting" (arXiv 1810.03993).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.scored import ScoredPart, decisive_part
from lensmount_adapters.metrics.share import Share
from lensmount_adapters.report.context import CardTexts, ReportContext
from lensmount_adapters.report.findings import Findings, find
from lensmount_adapters.report.record import TrainingRecord, read_record

MAX_LABELS = 20  # named in one line or one table row
MAX_CLASSES = 50  # rows of the table of classes


def model_card(
    manifest: Manifest,
    digest: str | None,
    size_bytes: int,
    parts: Mapping[str, ScoredPart] | None = None,
    texts: CardTexts | None = None,
    context: ReportContext | None = None,
) -> str:
    """The card of the adapter file with this manifest, digest and size, from its training record and `parts`.

    Without `parts` the metrics are those in the record. Rows and sections without a value are left out. `texts` are
    those of `context` unless given. Without a context the card has no date.
    """
    record = read_record(manifest)
    found = find(manifest, record, parts or {}, context or ReportContext())
    texts = texts or (context.texts if context else None) or CardTexts()
    sections = [
        _opening(manifest, texts),
        _facts(manifest, record, digest, size_bytes),
        _figures(manifest, record, parts or {}),
        _warned(found),
        _point(found),
        _trust(found),
        _before(found),
        _data(record, texts),
        _use(found, texts),
        _making(record, found, texts, dated=context is not None),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def method_of(manifest: Manifest) -> str:
    """The method in words: "lora, rank 8, linear head"."""
    ranks = sorted({factors.rank for factors in manifest.modules.values()})
    words = [manifest.method]
    if ranks:
        words.append(f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}")
    return ", ".join([*words, f"{manifest.head.kind} head"])


def duration(seconds: float) -> str:
    """The time in words: "41 s", "3 min 20 s", "2 h 5 min"."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.0f} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def named(labels: Sequence[str]) -> str:
    """The labels in one line; of more than 20, the first 20 and how many more there are."""
    rest = len(labels) - MAX_LABELS
    return ", ".join(labels[:MAX_LABELS]) + (f" and {rest} more" if rest > 0 else "")


def plain(text: str) -> str:
    """`text` on one line, escaped so that Markdown shows it literally: no markup, no HTML, no end of a table cell."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*{}\[\]<>|#~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line)


def _opening(manifest: Manifest, texts: CardTexts) -> list[str]:
    words = [f"**{texts.title}.**" if texts.title else "", plain(manifest.description)]
    paragraphs = [f"# {manifest.name}", " ".join(filter(None, words)), texts.notice]
    return ["\n\n".join(filter(None, paragraphs))]


def _facts(manifest: Manifest, record: TrainingRecord, digest: str | None, size_bytes: int) -> list[str]:
    stored = record.hyper_parameters.get("file_dtype")
    licence = f"licence: {plain(manifest.license)}" if manifest.license else ""
    file = ", ".join(filter(None, [f"{size_bytes:,} bytes", plain(stored or ""), licence]))
    rows = [
        ("labels", named([plain(label) for label in manifest.labels])),
        ("backbone", f"`{_code(manifest.backbone.name)}`, `{manifest.backbone.fingerprint[:19]}...`"),
        ("method", plain(method_of(manifest))),
        ("trained parameters", _trained(record)),
        ("input", str(manifest.preprocessing)),
        ("file", file),
        ("digest", f"`{digest}`" if digest else ""),
        ("full fine-tuning", _full_model(record, size_bytes)),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows if value)]


def _trained(record: TrainingRecord) -> str:
    if record.trainable_parameters is None:
        return ""
    of = "" if record.backbone_parameters is None else f" of {record.backbone_parameters:,}"
    return f"{record.trainable_parameters:,}{of}"


def _full_model(record: TrainingRecord, size_bytes: int) -> str:
    ratio = record.full_size_ratio(size_bytes)
    if record.full_bytes is None or ratio is None:
        return ""
    comparison = f"; this file is 1/{ratio:,} its size" if ratio > 1 else ""
    return f"a full model is {record.full_bytes / 1e6:.1f} MB (float32){comparison}"


_PART_NOTES = {
    "test": "held out from training",
    "validation": "which chose the epoch and the temperature, so expect slightly lower figures on new images",
    "calibration": "which measured the promises and fitted the temperature",
    "train": "which it was trained on, so expect lower figures on new images",
}


def _figures(manifest: Manifest, record: TrainingRecord, parts: Mapping[str, ScoredPart]) -> list[str]:
    part = decisive_part(parts)
    if part is not None:
        metrics: Mapping[str, Any] = parts[part].metrics.to_json()
        error = calibration(parts[part].truth, parts[part].scores).error
    else:
        part = next((name for name in ("test", "validation") if isinstance(record.metrics.get(name), Mapping)), None)
        if part is None:
            return []
        metrics, error = record.metrics[part], None
    recorded = next((known for known in record.parts if known.name == part), None)
    groups = f" of {recorded.groups} groups" if recorded and recorded.groups else ""
    note = f", {_PART_NOTES[part]}" if part in _PART_NOTES else ""
    count, correct = metrics["count"], sum(row[index] for index, row in enumerate(metrics["confusion"]))
    auroc = metrics["auroc"]
    return [
        f"## {plain(part).capitalize()}",
        "",
        f"{count} images{groups}{note}. Measured on the written file, read back and merged.",
        "",
        f"- balanced accuracy **{metrics['balanced_accuracy']:.3f}**",
        f"- accuracy {Share(correct, count)}",
        *([] if auroc is None else [f"- AUROC {auroc:.3f}"]),
        *([] if error is None else [f"- expected calibration error {error:.3f}"]),
        "",
        *_class_table(list(manifest.labels), metrics),
    ]


def _warned(found: Findings) -> list[str]:
    return ["\n".join(f"- {plain(warning)}" for warning in found.warnings)] if found.warnings else []


def _point(found: Findings) -> list[str]:
    """Sensitivity, specificity and predictive values of the positive label."""
    point = found.point
    if point is None:
        return []
    rows = (f"- {name} {figure}: {plain(meaning)}" for name, figure, meaning in point.rows())
    return [f"## {plain(point.diagnostic.positive)} as the positive result", "", plain(point.rule), "", *rows]


def _trust(found: Findings) -> list[str]:
    lines = [plain(found.no_promise), ""] if found.no_promise else []
    if found.promises and found.part is None:
        rows = (f"| {plain(row.about)} | {plain(row.promised)} |" for row in found.promises)
        lines += ["| | promised by the file |", "|---|---|", *rows]
    elif found.promises:
        heads = f"| | promised by the file | measured on the {plain(found.part or '')} part |"
        rows = (f"| {plain(row.about)} | {plain(row.promised)} | {plain(row.measured)} |" for row in found.promises)
        lines += [heads, "|---|---|---|", *rows]
    return ["## What single answers are worth", "", *lines] if lines else []


def _before(found: Findings) -> list[str]:
    if found.before is None:
        return []
    return ["## Compared with the version before", "", *(f"- {plain(line)}" for line in found.compared)]


def _use(found: Findings, texts: CardTexts) -> list[str]:
    said = [texts.use, plain(found.use), f"Limits: {plain(found.limits)}" if found.limits else ""]
    return ["## Intended use and limits", "", "\n\n".join(filter(None, said))] if any(said) else []


def _class_table(labels: list[str], metrics: Mapping[str, Any]) -> list[str]:
    """One row per class; of many classes only those with the lowest recall, and without the confusion matrix."""
    rows = list(zip(metrics["classes"], metrics["confusion"], strict=True))
    with_confusion = len(labels) <= MAX_LABELS
    note = []
    if len(rows) > MAX_CLASSES:
        rows = sorted(rows, key=lambda row: row[0]["recall"] if row[0]["count"] else 2)[:MAX_CLASSES]
        note = [f"The {MAX_CLASSES} classes of {len(labels)} with the lowest recall:", ""]
    last = " predicted as " + " / ".join(map(plain, labels)) + " |" if with_confusion else ""
    return [
        *note,
        f"| class | precision | recall | F1 | images |{last}",
        "|---|---|---|---|---|" + ("---|" if with_confusion else ""),
        *(
            f"| {plain(row['label'])} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} "
            f"| {row['count']} |" + (f" {' / '.join(map(str, counts))} |" if with_confusion else "")
            for row, counts in rows
        ),
    ]


def _data(record: TrainingRecord, texts: CardTexts) -> list[str]:
    if record.images is None and not texts.origin:
        return []
    lines = ["## Data", ""]
    if texts.origin:
        lines += [texts.origin, ""]
    if record.images is None:
        return lines[:-1]
    counts = named([f"{count} {plain(name)}" for name, count in record.classes.items()])
    seed, expression = record.split.get("seed"), record.split.get("group_regex", "not set")
    group = texts.group or ("image" if expression == "not set" else f"group, `{_code(expression)}` in the file's name")
    split = f" Split by {group}, stratified, seed {seed}:" if seed is not None else ""
    lines.append(f"{record.images} images: {counts}.{split}")
    if record.parts:
        labels = list(record.classes) if len(record.classes) <= MAX_LABELS else []
        lines += [
            "",
            "| part | images | groups | " + "".join(f"{plain(label)} | " for label in labels).rstrip(),
            "|---|---|---|" + "---|" * len(labels),
            *(
                f"| {plain(part.name)} | {part.images} | {'' if part.groups is None else part.groups} | "
                + "".join(f"{part.classes.get(label, 0)} | " for label in labels).rstrip()
                for part in record.parts
            ),
        ]
    if record.data_digest:
        lines += ["", f"Digest of the data: `{_code(record.data_digest)}`"]
    return [line.rstrip() for line in lines]


def _making(record: TrainingRecord, found: Findings, texts: CardTexts, dated: bool) -> list[str]:
    sentence = []
    if record.best_epoch is not None and record.epochs_run is not None:
        sentence.append(f"Best epoch {record.best_epoch} of {record.epochs_run}")
    if record.seconds is not None:
        precision, threads = record.run.get("precision"), record.run.get("threads")
        setup = f" in {plain(precision)} on {plain(threads)} CPU thread(s)" if precision and threads else ""
        sentence.append(duration(record.seconds) + setup)
    if "torch" in record.versions:
        sentence.append(f"torch {plain(record.versions['torch'])}")
    facts = ". ".join(f"{name.capitalize()}: {plain(fact)}" for name, fact in found.facts.items() if dated)
    lines = [texts.command, ", ".join(sentence) + "." if sentence else "", f"{facts}." if facts else ""]
    if not any(lines):
        return []
    return ["## How it was made", "", "\n\n".join(filter(None, lines))]


def _code(text: str) -> str:
    """`text` on one line, for a code span in a table cell."""
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|")
