"""What the calls return: frozen dataclasses, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class AdapterId:
    """Which adapter, exactly: the digest is "sha256:" and the SHA-256 of its file."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Backbone:
    """The resident network; the fingerprint is over all its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Score:
    """One class; the score lies in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """`prediction.top.label`, and what it takes to get the same answer again: digest and fingerprint."""

    predictions: tuple[Score, ...]  # best first
    adapter: AdapterId
    backbone: Backbone
    request_id: str
    timing_ms: Mapping[str, float]  # queue, decode, swap, forward, total

    @property
    def top(self) -> Score:
        return self.predictions[0]


@dataclass(frozen=True)
class AdapterInfo:
    """One adapter of the server; digest, size and the rest are those of its latest version."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: datetime
    method: str
    labels: tuple[str, ...]
    backbone: Backbone
    aliases: Mapping[str, int]
    versions: tuple[int, ...]
    status: str  # ready, or backbone_mismatch where the server holds another backbone
    manifest: Mapping[str, Any] | None = None  # from get(), not from list()


@dataclass(frozen=True)
class VersionInfo:
    """One version of one adapter."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: datetime
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Alias:
    """`name:alias` means this version until the alias is moved."""

    name: str
    alias: str
    version: int
    digest: str


@dataclass(frozen=True)
class DownloadedFile:
    """A file on this machine, whose bytes have been checked against the digest."""

    path: Path
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class AdapterFile(DownloadedFile):
    """A pulled adapter."""


@dataclass(frozen=True)
class Health:
    """The server is ready for requests; `report` is all that it said."""

    status: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Integrity:
    """Whether the live backbone still has the bytes it started with; `report` is all that the server said."""

    ok: bool
    report: Mapping[str, Any]
