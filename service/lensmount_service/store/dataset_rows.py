"""The rows of the datasets' versions: the table, a row as a Dataset, and which row is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lensmount_service.errors import NotFound, VersionDeleted
from lensmount_service.store.database import metadata
from lensmount_service.store.similar import similar_name

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


def rows_of(connection: sa.Connection, name: str) -> list[Any]:
    return list(connection.execute(dataset_table.select().where(columns.name == name).order_by(columns.version)))


def live_digests(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.select(columns.digest).where(~columns.deleted)).scalars())


def version_by(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Dataset:
    return dataset_of(live_row(connection, name, rows, column, wanted))


def live_row(connection: sa.Connection, name: str, rows: list[Any], column: str, wanted: object) -> Any:
    """The latest live row with this version or digest."""
    matching = [row for row in rows if getattr(row, column) == wanted]
    live = [row for row in matching if not row.deleted]
    if live:
        return live[-1]
    if matching:
        raise VersionDeleted(f"this version of the dataset {name!r} was deleted. Fix: use another", code="dataset_gone")
    if all(row.deleted for row in rows):
        raise not_found(connection, name)
    newest = max(row.version for row in rows if not row.deleted)
    raise NotFound(
        f"found no such version of the dataset {name!r}. Did you mean {newest}, the latest?", code="dataset_not_found"
    )


def dataset_of(row: Any) -> Dataset:
    return Dataset(**{field: getattr(row, field) for field in Dataset.__dataclass_fields__})


def not_found(connection: sa.Connection, name: str) -> NotFound:
    meant = similar_name(connection, columns.name, ~columns.deleted, name)
    return NotFound(
        f"found no dataset named {name[:80]!r}.{meant} Fix: see GET /datasets for the names", code="dataset_not_found"
    )
