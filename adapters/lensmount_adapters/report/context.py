"""What a report shows besides the adapter file and its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from lensmount_adapters.metrics.paired import Paired


def today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class CardTexts:
    """Texts for the card that no training record holds. Each is Markdown; empty ones are left out.

    `group` names the unit that the split keeps together ("patient"), `command` repeats the run, and `notice` is a
    warning at the top.
    """

    title: str = ""
    notice: str = ""
    origin: str = ""
    group: str = ""
    use: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier version on the same images; `note` is what to know about the comparison, or empty."""

    name: str
    digest: str
    paired: Paired
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReportContext:
    """`ReportContext(notes=result.notes)`: everything is optional.

    `gate` is the verdict that decided on publishing, `notes` are sentences on the data, and `texts` is what the card
    says beyond the training record. `positive`, `prevalence` and `author` replace those of the record. `before` is
    compared with. `heat_map` gives the PNG of the image at a path with what speaks for the answer, or None.
    """

    gate: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    texts: CardTexts | None = None
    written: date = field(default_factory=today)
    positive: str | None = None
    prevalence: float | None = None
    author: str = ""
    before: Before | None = None
    heat_map: Callable[[str], bytes | None] | None = None
