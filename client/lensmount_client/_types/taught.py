"""What `Client.teach` returns, and how far it is while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lensmount_client._types.jobs import DatasetId
from lensmount_client._types.results import AdapterId


@dataclass(frozen=True)
class TeachProgress:
    """`step` is "upload", "queued", or a phase of the job such as "training". `share` of it is done, from 0 to 1.

    `message` says it in words, for people.
    """

    step: str
    share: float
    message: str


TeachReport: TypeAlias = Callable[[TeachProgress], object]


@dataclass(frozen=True)
class Taught:
    """An adapter that is live: `client.predict(image, taught.name)`. `str(taught)` says how good it is."""

    adapter: AdapterId
    dataset: DatasetId
    job_id: str  # of `client.jobs.get`, whose files have the report
    labels: tuple[str, ...]
    images: int  # in the dataset
    tested: int  # images kept aside as the test part
    balanced_accuracy: float  # on the test part, from 0 to 1; NaN if the job kept no test part
    seconds: float  # that the worker took
    warnings: tuple[str, ...]  # of the dataset's report

    @property
    def name(self) -> str:
        """The adapter's name, for `client.predict`."""
        return self.adapter.name

    def __str__(self) -> str:
        """Short: "leaves@1: 3 classes, balanced accuracy 88.9% on 9 test images"."""
        measured = (
            f"balanced accuracy {self.balanced_accuracy:.1%} on {self.tested} test images"
            if self.tested
            else "not measured, because there was no test part"
        )
        return f"{self.adapter.name}@{self.adapter.version}: {len(self.labels)} classes, {measured}"
