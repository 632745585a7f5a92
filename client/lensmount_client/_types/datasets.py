"""What the server knows of a dataset: frozen dataclasses, and how they are read from an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class DatasetWarning:
    """Something about the images that may spoil a training; `code` is stable, `message` says it to a person."""

    code: str
    message: str


@dataclass(frozen=True)
class DatasetReport:
    """What the server found in the images it took; `raw` is all that it said, with examples."""

    images: int
    classes: Mapping[str, int]  # images by label
    splits: Mapping[str, int] | None  # images by part, where the manifest gives parts
    duplicates: int  # files whose bytes stand there more than once
    near_duplicates: int  # pairs of images that look the same
    near_duplicates_across_splits: int
    near_duplicates_across_classes: int
    unreadable: int  # files left out because they cannot be decoded
    ignored: int  # files left out because they are no images
    warnings: tuple[DatasetWarning, ...]
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset; the digest is that of the archive that `pull` downloads."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: datetime
    images: int
    classes: Mapping[str, int]  # images by label
    report: DatasetReport
    raw: Mapping[str, Any] = field(repr=False)  # the document of the HTTP API
    left_out: Mapping[str, int] = field(
        default_factory=dict
    )  # after a push: files not sent, by kind (".txt", "hidden")

    @property
    def reference(self) -> str:
        """`name@version`, as `jobs.submit` takes it."""
        return f"{self.name}@{self.version}"
