"""What the methods of a client return, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lensmount_client._types.rollouts import Rollout


@dataclass(frozen=True)
class AdapterId:
    """Identifies one version of an adapter. The digest is "sha256:" and the SHA-256 of its file."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class PushedAdapter(AdapterId):
    """A version that was pushed. `note` says what the server changed in the file and what that costs, if anything."""

    note: str | None = None


@dataclass(frozen=True)
class Backbone:
    """The network in memory. The fingerprint covers all its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class AliasTrust:
    """Thresholds that requests by an alias use in place of the adapter's own. None leaves the adapter's own.

    An answer is accepted from the score `accept_confidence` (0 to 1) on. An image is unfamiliar from the percentile
    `unfamiliar_percentile` (above 0, at most 100) of the images that were kept aside in training on.
    """

    accept_confidence: float | None = None
    unfamiliar_percentile: float | None = None


@dataclass(frozen=True)
class AdapterStats:
    """How an adapter was used by the own tenant since the server started, at `since`.

    `requests` counts by status, and `decisions` the answers that were accepted, uncertain or unfamiliar. `images` have
    an answer. `mean_ms` is the mean time of the requests that were answered; None if there was none.
    """

    name: str
    since: datetime
    requests: Mapping[int, int]
    images: int
    decisions: Mapping[str, int]
    mean_ms: float | None
    last_used: datetime | None


@dataclass(frozen=True)
class AdapterInfo:
    """One adapter on the server. Digest, size and the other fields describe its latest version."""

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
    status: str  # ready, or backbone_mismatch if the server runs another backbone
    manifest: Mapping[str, Any] | None = None  # from get(), not from list()
    trust: Mapping[str, Any] | None = None  # what it promises: calibration, sets, selective, operating, familiarity
    alias_trust: Mapping[str, AliasTrust] = field(default_factory=dict)  # the aliases with thresholds of their own
    tenant: str = "default"  # whose it is; "public" if it is shared as public/NAME
    owner: str | None = None  # the name of the token that uploaded it, if that is known
    signed_by: str | None = None  # the trusted key that signed the file
    protected_aliases: tuple[str, ...] = ()  # those that only an administrator of the tenant moves
    draft: bool = False  # whether the latest version is a first draft, which no job has trained
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)  # the aliases for which another version is tried
    titles: Mapping[str, str] = field(default_factory=dict)  # how people read a label, for labels with a title


@dataclass(frozen=True)
class DeletedVersion:
    """A version that `adapters.undelete` takes back, at least until `kept_until`."""

    name: str
    version: int
    digest: str
    size_bytes: int
    deleted_at: datetime
    kept_until: datetime


@dataclass(frozen=True)
class VersionInfo:
    """One version of one adapter."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: datetime
    manifest: Mapping[str, Any]
    trust: Mapping[str, Any] | None = None  # what it promises, as in AdapterInfo
    tenant: str = "default"
    owner: str | None = None
    signed_by: str | None = None


@dataclass(frozen=True)
class Alias:
    """`name:alias` points to this version until the alias is moved.

    `trust` is None if it has no thresholds, and `rollout` if no other version is tried.
    """

    name: str
    alias: str
    version: int
    digest: str
    trust: AliasTrust | None = None
    rollout: Rollout | None = None


@dataclass(frozen=True)
class DownloadedFile:
    """A file on this machine. Its bytes match the digest."""

    path: Path
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class AdapterFile(DownloadedFile):
    """A pulled adapter."""


@dataclass(frozen=True)
class ImportedModule:
    """One module of the backbone that an imported file changes, or its head.

    `form` is low-rank, tucker, scaled, full, head, or shared for what all modules use. `error` is the relative error of
    the merged weight as stored.
    """

    module: str
    form: str
    rank: int | None
    error: float
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor of an imported file: each is in `matched` or in `ignored`, with the reason.

    `share` is the part of the file's numbers that became deltas or the head, from 0 to 1, and `error` the largest error
    of a module. `unproven` says what the file cannot prove.
    """

    tool: str
    method: str
    labels: tuple[str, ...]
    stored_as: str
    share: float
    error: float
    matched: tuple[ImportedModule, ...]
    ignored: Mapping[str, str]
    notes: tuple[str, ...]
    unproven: str


@dataclass(frozen=True)
class Imported:
    """The new version, or None after a dry run, and the report on the file."""

    adapter: AdapterId | None
    report: ImportReport


@dataclass(frozen=True)
class Export:
    """An adapter in the format of another tool: a folder, its files, and what to know about them."""

    path: Path
    to: str
    digest: str  # of the zip that the server sent
    files: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Health:
    """The server is ready for requests. `report` is its complete response."""

    status: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Integrity:
    """`ok` is True if the live backbone still has its original bytes. `report` is the server's complete response."""

    ok: bool
    report: Mapping[str, Any]
