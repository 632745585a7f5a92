"""What the server knows about a dataset, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lensmount_client._types.predictions import Score
from lensmount_client._types.results import AdapterId


@dataclass(frozen=True)
class DatasetWarning:
    """A property of the images that may harm training. `code` is stable; `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True)
class DatasetReport:
    """What the server found in the images that it accepted. `raw` is its complete report, with examples."""

    images: int
    classes: Mapping[str, int]  # images by label
    splits: Mapping[str, int] | None  # images by split, if the manifest gives splits
    duplicates: int  # files that are byte for byte the same as another one
    near_duplicates: int  # pairs of images that look the same
    near_duplicates_across_splits: int
    near_duplicates_across_classes: int
    unreadable: int  # files left out because they cannot be decoded
    ignored: int  # files left out because they are not images
    warnings: tuple[DatasetWarning, ...]
    raw: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()  # how the zip was read: which folders are its parts, what was passed through


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset. The digest is that of the archive that `pull` downloads."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: datetime
    images: int
    classes: Mapping[str, int]  # images by label
    report: DatasetReport
    raw: Mapping[str, Any] = field(repr=False)  # the JSON object of the HTTP API
    left_out: Mapping[str, int] = field(default_factory=dict)  # after a push: files not sent, by ".txt" or "hidden"
    notes: tuple[str, ...] = ()  # after a push: how the folder was read, as `lensmount train` says it
    tenant: str = "default"  # whose it is; "public" if it is shared as public/NAME
    owner: str | None = None  # the name of the token that uploaded it, if that is known

    @property
    def reference(self) -> str:
        """`name@version`, as `jobs.submit` takes it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Draft(AdapterId):
    """A first draft that the server published: a head on the frozen network, until a trained adapter replaces it.

    `balanced_accuracy` is of images that the head was solved without. It is None if a class has a single group.
    """

    images: int  # that the head was solved on
    left_out: int  # images of the dataset that were not used: too many, copies, or kept for tests
    classes: Mapping[str, int]  # the used images by label
    balanced_accuracy: float | None
    seconds: float  # on the server
    raw: Mapping[str, Any] = field(repr=False)  # the JSON object of the HTTP API


@dataclass(frozen=True)
class UnlabelledImage:
    """An image that waits for a label. `digest` names it."""

    digest: str
    size_bytes: int
    added_at: float  # seconds since 1970
    added_by: str
    group: str | None


@dataclass(frozen=True)
class Pool:
    """What waits under one name: images, those with a label, and how many each person has reserved now."""

    name: str
    images: int
    labelled: int
    size_bytes: int
    held: Mapping[str, int]


@dataclass(frozen=True)
class NextImage:
    """An image to label, and the adapter's scores for it, best first."""

    digest: str
    predictions: tuple[Score, ...]


@dataclass(frozen=True)
class NextImages:
    """The images that one person labels next. `state` is "scoring" while the adapter still computes the pool."""

    name: str
    adapter: AdapterId
    strategy: str
    state: str
    done: int
    total: int  # images without a label that nobody holds
    unfamiliar: int  # images left out because they are unlike those of the adapter
    lease_s: float
    items: tuple[NextImage, ...]


@dataclass(frozen=True)
class LabelInfo:
    """One person's label for one image."""

    number: int
    digest: str
    label: str
    who: str
    at: float  # seconds since 1970
    adapter: str | None  # whose answer it corrects
    request_id: str | None


@dataclass(frozen=True)
class Published:
    """A version made of labelled images. People disagree about the `disputed` ones, which are not in it."""

    dataset: Dataset
    labelled: int
    disputed: tuple[str, ...]


@dataclass(frozen=True)
class Feedback:
    """A corrected answer, as the server keeps it in the pool `dataset`."""

    dataset: str
    digest: str
    label: str
    who: str
    adapter: AdapterId
    request_id: str
