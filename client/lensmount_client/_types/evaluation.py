"""How well an adapter answers labelled images: figures with intervals, from counts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lensmount_client._html.markup import bar, frame, line, table, text
from lensmount_client._types.records import Record, data_frame
from lensmount_client._types.results import AdapterId

if TYPE_CHECKING:
    import pandas

CLASS_RECORD = ("label", "images", "correct", "recall", "low", "high")


@dataclass(frozen=True)
class Interval:
    """A share from 0 to 1 with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class ClassResult:
    """One class of the labelled images: how many there were, and how many of them got its label."""

    label: str
    images: int
    correct: int
    recall: Interval  # by Wilson


@dataclass(frozen=True)
class Decided:
    """The images for which the adapter's trust came to one decision, and how many of them were answered correctly."""

    images: int
    correct: int


@dataclass(frozen=True)
class FailedImage:
    """An image without an answer, such as a damaged file. It counts in no figure."""

    path: str
    code: str
    detail: str


@dataclass(frozen=True)
class Evaluation:
    """`client.evaluate("mine", "test-photos/").balanced_accuracy.value`, of the answers of POST /predict.

    `classes` are the classes that occur in the folder. `confusion[i][j]` counts the images of the i-th of `labels` that
    got the j-th; `labels` are all of the adapter. `decisions` has "accept", "uncertain" and "unfamiliar", and is empty
    if the adapter promises nothing. `mistakes` are the paths with another label, each with (label, answer).
    """

    adapter: AdapterId
    images: int  # with an answer
    accuracy: Interval  # by Wilson
    balanced_accuracy: Interval  # the mean of the recalls; its interval is made of theirs (MOVER)
    classes: tuple[ClassResult, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    decisions: Mapping[str, Decided]
    mistakes: Mapping[str, tuple[str, str]]
    failed: tuple[FailedImage, ...]

    def __str__(self) -> str:
        adapter = f"{self.adapter.name}@{self.adapter.version}"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{adapter}: balanced accuracy {self.balanced_accuracy} on {self.images} images{failed}"

    def to_records(self) -> list[Record]:
        """One flat dictionary for each class, with the keys CLASS_RECORD."""
        return [
            {
                **{"label": found.label, "images": found.images, "correct": found.correct},
                **{"recall": found.recall.value, "low": found.recall.low, "high": found.recall.high},
            }
            for found in self.classes
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """The records as a table. Raises InvalidInput if pandas is not installed."""
        return data_frame(self.to_records(), CLASS_RECORD)

    def confusion_to_pandas(self) -> pandas.DataFrame:
        """The counts, with the true labels as rows and the answers as columns."""
        rows: list[Mapping[str, Any]] = [dict(zip(self.labels, row, strict=True)) for row in self.confusion]
        return data_frame(rows, self.labels).set_axis(list(self.labels))

    def _repr_html_(self) -> str:
        """The recall of each class, the confusion and the decisions, for notebooks."""
        recalls = table(
            ("class", "images", "recall", "95 % interval"),
            (
                (
                    text(found.label),
                    str(found.images),
                    bar(found.recall.value, f"recall of {found.label}"),
                    f"{found.recall.low:.1%} to {found.recall.high:.1%}",
                )
                for found in self.classes
            ),
            right=(1, 3),
        )
        counts = table(
            ("true label, answers as columns", *self.labels),
            ((text(label), *map(str, row)) for label, row in zip(self.labels, self.confusion, strict=True)),
            right=range(1, len(self.labels) + 1),
        )
        decided = table(
            ("decision", "images", "correct"),
            ((text(word), str(found.images), str(found.correct)) for word, found in self.decisions.items()),
            right=(1, 2),
        )
        return line(self, strong=True) + frame(recalls, counts, decided if self.decisions else "")
