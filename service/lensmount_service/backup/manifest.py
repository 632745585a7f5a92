"""What one backup consists of: each path of a state folder with the digest of its bytes, as a JSON document.

The name of a manifest has the time and the digest of the document, so that a damaged one is recognised.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lensmount_service.errors import Unavailable

FORMAT = 1
NAME = re.compile(r"(?P<time>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?P<digest>[0-9a-f]{16})\.json")

_HEX = "[0-9a-f]{64}"
_PATHS = (
    *("registry.sqlite3", f"blobs/{_HEX}", rf"datasets/{_HEX}\.zip", f"pools/{_HEX}"),
    *(r"jobs/[A-Za-z0-9_-]{1,64}/[a-z][a-z.]{0,31}", r"audit/audit-[0-9]{16}\.jsonl"),
)
Digest = Annotated[str, StringConstraints(pattern=rf"^sha256:{_HEX}$")]
StatePath = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(_PATHS)})$")]
"""A path in a state folder. No other path is ever written by a restore."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Entry(_Model):
    """One file. `modified_ns` is when the original was last written: one that did not change is not read again."""

    digest: Digest
    size_bytes: int = Field(ge=0)
    modified_ns: int | None = None


class Absent(_Model):
    """A file that the database refers to and that could not be copied, because it is missing or damaged."""

    path: StatePath
    digest: Digest
    title: str


class BackupManifest(_Model):
    """One backup. Without a database of its own (`postgresql`) it has the files alone."""

    format: int
    lensmount: str
    created_at: str
    schema_version: int = Field(ge=0)
    database: Literal["sqlite", "postgresql"]
    files: dict[StatePath, Entry]
    absent: list[Absent]


def name_of(text: str, at: datetime.datetime) -> str:
    """The name of a manifest's file."""
    return f"{at:%Y%m%dT%H%M%S.%f}Z-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def read_manifest(path: Path) -> BackupManifest:
    """Raises Unavailable if the file is damaged or was written by a newer Lensmount."""
    found = NAME.fullmatch(path.name)
    text = path.read_bytes()
    if found is None or hashlib.sha256(text).hexdigest()[:16] != found["digest"]:
        raise Unavailable(
            f"found {path}, whose bytes do not match the digest in its name, expected a complete list of files. "
            "Fix: choose an earlier backup with --at; `lensmount restore FROM --list` shows them",
            code="store_unavailable",
        )
    try:
        manifest = BackupManifest.model_validate_json(text)
    except ValidationError as error:
        raise _newer(path, str(error).splitlines()[0]) from error
    if manifest.format != FORMAT:
        raise _newer(path, f"format {manifest.format}")
    return manifest


def _newer(path: Path, found: str) -> Unavailable:
    return Unavailable(
        f"found {path} of another kind ({found}), expected a backup of format {FORMAT}. "
        "Fix: restore it with the Lensmount that made it, or a newer one",
        code="store_unavailable",
    )
