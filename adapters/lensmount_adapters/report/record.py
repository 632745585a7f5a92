"""The training record of a manifest, read defensively: it is free-form JSON, and anyone may have written it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.data.labels import PARTS

MAX_EPOCHS = 2000  # lines of history that are read
MAX_ROWS = 200  # settings that are listed
MAX_TEXT = 300  # characters of each setting
MAX_STATEMENT = 4000  # characters of what people said about the use and its limits
MAX_DEPTH = 6  # levels of nested objects


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One part of the recorded split; `classes` counts the images of each label."""

    name: str
    images: int
    groups: int | None
    classes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One line of the history; a figure that was not recorded is None."""

    epoch: int
    loss: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_balanced_accuracy: float | None


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """The record's values; None or empty if a value is missing or not of the expected type.

    `author`, `intended_use` and `limits` are what people said, `positive` is the label that counts as the positive
    result, and `prevalence` in (0, 1) is its frequency in use. `weights` names the source of the backbone's weights.
    `run` holds every value of the record that has no field here, such as precision, threads and device.
    """

    data_name: str | None
    data_digest: str | None
    images: int | None
    classes: Mapping[str, int]
    split: Mapping[str, str]
    parts: tuple[PartRecord, ...]
    history: tuple[EpochFigures, ...]
    best_epoch: int | None
    epochs_run: int | None
    seconds: float | None
    trainable_parameters: int | None
    backbone_parameters: int | None
    head_parameters: int
    hyper_parameters: Mapping[str, str]
    versions: Mapping[str, str]
    run: Mapping[str, str]
    metrics: Mapping[str, Any]
    positive: str | None
    prevalence: float | None
    author: str
    intended_use: str
    limits: str
    weights: str | None

    @property
    def full_parameters(self) -> int | None:
        """How many parameters full fine-tuning would train: the backbone and a head like the adapter's."""
        if self.backbone_parameters is None:
            return None
        return self.backbone_parameters + self.head_parameters

    @property
    def full_bytes(self) -> int | None:
        """The size of a full model in float32: four bytes per parameter."""
        return None if self.full_parameters is None else 4 * self.full_parameters

    def full_size_ratio(self, size_bytes: int) -> int | None:
        """How many adapters of this size are as large as one full model, rounded down."""
        return None if self.full_bytes is None or size_bytes <= 0 else self.full_bytes // size_bytes


def read_record(manifest: Manifest) -> TrainingRecord:
    record = manifest.training
    data, split, epochs = (_object(record.get(key)) for key in ("data", "split", "epochs"))
    parts, card = _object(split.get("parts")), _object(record.get("card"))
    hyper_parameters, prevalence = _object(record.get("hyper_parameters")), _number(card.get("prevalence"))
    history = record.get("history")
    lines = history[:MAX_EPOCHS] if isinstance(history, list) else []
    return TrainingRecord(
        data_name=_text(data.get("name")),
        data_digest=_text(data.get("digest")),
        images=_count(data.get("images")),
        classes=_counts(data.get("classes")),
        split=flatten({key: value for key, value in split.items() if key != "parts"}),
        parts=tuple(sorted(map(_part, parts.keys(), parts.values()), key=_order)),
        history=tuple(_epoch(number, _object(line)) for number, line in enumerate(lines, start=1)),
        best_epoch=_count(epochs.get("best")),
        epochs_run=_count(epochs.get("run")),
        seconds=_number(record.get("seconds")),
        trainable_parameters=_count(record.get("trainable_parameters")),
        backbone_parameters=_count(record.get("backbone_parameters")),
        head_parameters=_count(record.get("head_parameters")) or 0,
        hyper_parameters=flatten(hyper_parameters),
        versions=flatten(_object(record.get("versions"))),
        run=flatten({key: value for key, value in record.items() if key not in _OWN_FIELD}),
        metrics=_object(record.get("metrics")),
        positive=_text(hyper_parameters.get("positive")),
        prevalence=prevalence if prevalence is not None and 0 < prevalence < 1 else None,
        author=_text(card.get("author")) or "",
        intended_use=_text(card.get("intended_use"), MAX_STATEMENT) or "",
        limits=_text(card.get("limits"), MAX_STATEMENT) or "",
        weights=_text(record.get("weights")),
    )


def flatten(document: Mapping[str, Any]) -> dict[str, str]:
    """Every value under its dotted name, as short text for a table; null is "not set"."""
    rows: dict[str, str] = {}
    for name, value in _leaves(document, ""):
        if len(rows) == MAX_ROWS:
            break
        rows[_shorten(name)] = _shown(value)
    return rows


_OWN_FIELD = frozenset(
    [
        "card",
        "data",
        "weights",
        "split",
        "history",
        "hyper_parameters",
        "versions",
        "metrics",
        "seconds",
        "trainable_parameters",
        "backbone_parameters",
        "head_parameters",
    ]
)


def _leaves(document: Mapping[str, Any], prefix: str, depth: int = 1) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
            yield from _leaves(value, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return (
            _shorten(", ".join("..." if _is_nested(item) else _shorten(str(item)) for item in value[:MAX_ROWS]))
            or "none"
        )
    return "..." if _is_nested(value) else _shorten(str(value))


def _is_nested(value: Any) -> bool:
    """True if the value holds further values, for which a table has no room."""
    return isinstance(value, Mapping | list | tuple)


def _shorten(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _part(name: str, value: Any) -> PartRecord:
    part = _object(value)
    return PartRecord(
        _shorten(name), _count(part.get("images")) or 0, _count(part.get("groups")), _counts(part.get("classes"))
    )


def _order(part: PartRecord) -> tuple[int, str]:
    return PARTS.index(part.name) if part.name in PARTS else len(PARTS), part.name


def _epoch(number: int, line: Mapping[str, Any]) -> EpochFigures:
    return EpochFigures(
        number,
        _number(line.get("loss")),
        _number(line.get("accuracy")),
        _number(line.get("validation_loss")),
        _number(line.get("validation_balanced_accuracy")),
    )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _counts(value: Any) -> dict[str, int]:
    counts = {str(name): _count(count) for name, count in _object(value).items()}
    return {name: count for name, count in counts.items() if count is not None}


def _text(value: Any, most: int = MAX_TEXT) -> str | None:
    return _shorten(value, most) if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    """A finite number. A bool does not count as one, and neither does an integer that is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        return None
    return value
