"""The rows of the datasets' versions: the table, a row as a Dataset, and which row is asked for."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from lensmount_adapters.data.dataset_archive import DatasetArchive
from lensmount_service.errors import NotFound, Unusable, VersionDeleted
from lensmount_service.store.database import metadata
from lensmount_service.store.keys import Charge, tenant_of, within
from lensmount_service.store.precondition import Precondition, live_digest
from lensmount_service.store.similar import similar_key

log = structlog.get_logger(__name__)

CONTENTS = ("digest", "size_bytes", "images", "classes", "report", "source_digest", "source_bytes")

dataset_table = sa.Table(
    "datasets",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", sa.Float),  # seconds since the epoch, while it can be undeleted
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("classes", sa.JSON, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
    sa.Column("source_digest", sa.String(71), nullable=False, index=True),  # of the zip as it was sent
    sa.Column("source_bytes", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(64)),  # the actor who uploaded it
    sa.Index("ix_datasets_owner", "owner"),
)
columns = dataset_table.c


@dataclass(frozen=True, slots=True)
class Dataset:
    """One immutable version of a dataset. `report` describes what is in it."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: str
    images: int
    classes: dict[str, int]
    report: dict[str, Any]
    owner: str | None = None


def contents_of(canonical: DatasetArchive, source: tuple[str, int] | None) -> dict[str, Any]:
    """The columns of a version. One that was made of another has its own archive as source."""
    source_digest, source_bytes = source or (canonical.digest, canonical.size_bytes)
    return {
        "digest": canonical.digest,
        "size_bytes": canonical.size_bytes,
        "images": canonical.images,
        "classes": canonical.classes,
        "report": canonical.report,
        "source_digest": source_digest,
        "source_bytes": source_bytes,
    }


def added(
    connection: sa.Connection, name: str, contents: dict[str, Any], expected: Precondition, charge: Charge
) -> tuple[Dataset, bool]:
    """A new version with these columns and True, or the latest one and False if that already has this content."""
    rows = rows_of(connection, name)
    live = [row for row in rows if not row.deleted]
    expected.require(live_digest(rows), contents["digest"])
    if live and live[-1].digest == contents["digest"]:
        return dataset_of(live[-1]), False
    charge(connection, name, contents["owner"], contents["size_bytes"], contents["source_digest"])
    created_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    values = {"name": name, "version": (rows[-1].version if rows else 0) + 1, "created_at": created_at, **contents}
    connection.execute(dataset_table.insert().values(**values, deleted=False))
    log.info("dataset published", dataset=name, version=values["version"], digest=values["digest"])
    return Dataset(**{field: values[field] for field in Dataset.__dataclass_fields__}), True


def rows_of(connection: sa.Connection, name: str) -> list[Any]:
    return list(connection.execute(dataset_table.select().where(columns.name == name).order_by(columns.version)))


def needed_digests(connection: sa.Connection) -> set[str]:
    """Of live versions and of those that can be undeleted."""
    needed = sa.or_(~columns.deleted, columns.deleted_at.is_not(None))
    return set(connection.execute(sa.select(columns.digest).where(needed)).scalars())


def mark(connection: sa.Connection, name: str, rows: list[Any], *, deleted: bool, at: float | None = None) -> None:
    """Delete rows at a time, or for good if that is None; or undelete them."""
    numbers = [row.version for row in rows]
    mine = sa.and_(columns.name == name, columns.version.in_(numbers))
    connection.execute(dataset_table.update().where(mine).values(deleted=deleted, deleted_at=at))


def to_delete(connection: sa.Connection, name: str, version: int | None, *, purge: bool) -> list[Any]:
    """The rows that a delete takes; with `purge`, also those that were deleted and can be undeleted.

    Raises NotFound, VersionDeleted.
    """
    rows = rows_of(connection, name)
    present = [row for row in rows if not row.deleted or (purge and row.deleted_at is not None)]
    if not present:
        raise not_found(connection, name)
    chosen = [row for row in present if version in (None, row.version)]
    return chosen or [live_row(connection, name, rows, "version", version)]  # which raises


def take_back(connection: sa.Connection, name: str, version: int | None, expected: Precondition) -> None:
    """Undo the latest delete, or that of one version. Raises NotFound, VersionDeleted or PreconditionFailed."""
    before = live_digest(rows_of(connection, name), version)
    mark(connection, name, _to_undelete(connection, name, version), deleted=False)
    expected.require(before, live_digest(rows_of(connection, name), version))


def _to_undelete(connection: sa.Connection, name: str, version: int | None) -> list[Any]:
    """The rows of the latest delete, or one version if it was deleted. Raises NotFound, VersionDeleted."""
    rows = rows_of(connection, name)
    kept = [row for row in rows if row.deleted_at is not None]
    if not kept and all(row.deleted for row in rows):
        raise not_found(connection, name)
    if version is None:
        return [row for row in kept if row.deleted_at == max(row.deleted_at for row in kept)]
    if chosen := [row for row in kept if row.version == version]:
        return chosen
    live_row(connection, name, rows, "version", version)  # raises if it is not live
    return []


def version_by(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Dataset:
    return dataset_of(live_row(connection, name, rows, column, wanted))


def live_row(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Any:
    """The latest live row with this version or digest."""
    matching = [row for row in rows if getattr(row, column) == wanted]
    live = [row for row in matching if not row.deleted]
    if live:
        return live[-1]
    if matching:
        back = matching[-1].deleted_at is not None
        way_back = f", or POST /datasets/{name}/undelete?version={matching[-1].version}" if back else ""
        raise VersionDeleted(
            f"this version of the dataset {name!r} was deleted. Fix: use another{way_back}", code="dataset_gone"
        )
    if all(row.deleted for row in rows):
        raise not_found(connection, name)
    newest = max(row.version for row in rows if not row.deleted)
    raise NotFound(
        f"found no such version of the dataset {name!r}. Did you mean {newest}, the latest?", code="dataset_not_found"
    )


def dataset_of(row: Any) -> Dataset:
    return Dataset(**{field: getattr(row, field) for field in Dataset.__dataclass_fields__})


def not_found(connection: sa.Connection, name: str) -> NotFound:
    kept = any(row.deleted_at is not None for row in rows_of(connection, name))
    meant = similar_key(connection, columns.name, ~columns.deleted, name)
    fix = "Fix: see GET /datasets for the names"
    if kept:
        way_back = f"POST /datasets/{name}/undelete takes it back"
        fix = f"Fix: it was deleted; {way_back}"
    return NotFound(f"found no dataset named {name[:80]!r}.{meant} {fix}", code="dataset_not_found")


def corrupt(dataset: Dataset) -> Unusable:
    return Unusable(
        f"dataset {dataset.digest[:19]}...: its file is gone or has another size. Fix: upload it again",
        code="dataset_corrupt",
    )


def made_of(connection: sa.Connection, name: str, source_digest: str) -> Sequence[Any]:
    """The live versions that were made of these bytes and belong to the tenant of `name`."""
    same = columns.source_digest == source_digest, ~columns.deleted, within(columns.name, tenant_of(name))
    return connection.execute(dataset_table.select().where(*same)).all()
