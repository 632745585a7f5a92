"""Which files the database refers to: adapters, datasets and images of pools, each named by the digest of its bytes.

It reads tables of every schema, so that a check or a backup needs no migration first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa

from lensmount_service.store.faults import fault_of_database

Kind = Literal["adapter", "dataset", "image"]
Key = tuple[Kind, str]
"""The kind of a file and its digest."""

_TABLES: tuple[tuple[Kind, str, str], ...] = (
    ("adapter", "versions", "name"),
    ("dataset", "datasets", "name"),
    ("image", "pool_images", "dataset"),
)


@dataclass(frozen=True, slots=True)
class Needed:
    """A file that rows refer to. `users` names them, such as "malaria@3"."""

    kind: Kind
    digest: str
    users: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is, for people: who uses it and which bytes it should have."""
        more = f" and {len(self.users) - 1} more" if len(self.users) > 1 else ""
        return f"{self.kind} {self.users[0]}{more} ({self.digest[:19]}...)"


def needed_files(connection: sa.Connection) -> dict[Key, Needed]:
    """The files of live rows and of those that can be undeleted, by kind and digest."""
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    users: dict[Key, list[str]] = {}
    for kind, table, name in _TABLES:
        if table not in tables:
            continue
        columns = {column["name"] for column in inspector.get_columns(table)}
        for row in connection.execute(_query(table, name, columns)):
            user = row.name if row.version is None else f"{row.name}@{row.version}"
            users.setdefault((kind, row.digest), []).append(user)
    return {(kind, digest): Needed(kind, digest, tuple(names)) for (kind, digest), names in users.items()}


def _query(table: str, name: str, columns: set[str]) -> sa.Select[tuple[str, str, int | None]]:
    rows = sa.table(
        table,
        sa.column(name, sa.String),
        sa.column("digest", sa.String),
        sa.column("version", sa.Integer),
        sa.column("deleted", sa.Boolean),
        sa.column("deleted_at", sa.Float),
    )
    version = rows.c.version if "version" in columns else sa.null()
    query = sa.select(rows.c[name].label("name"), rows.c.digest, version.label("version")).order_by(rows.c[name])
    if "deleted" not in columns:
        return query
    if "deleted_at" not in columns:
        return query.where(~rows.c.deleted)
    return query.where(sa.or_(~rows.c.deleted, rows.c.deleted_at.is_not(None)))


@contextmanager
def reading_file(path: Path) -> Iterator[sa.Connection]:
    """A connection to an SQLite file that cannot write to it. Raises StoreDamaged or Unavailable."""
    engine = sa.create_engine("sqlite://", creator=lambda: _open_for_reading(path), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise fault_of_database(error) from error
    finally:
        engine.dispose()


def _open_for_reading(path: Path) -> sqlite3.Connection:
    """SQLite needs the log's index to read a file in WAL mode; on a disk that cannot be written, it does without."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        connection.execute("PRAGMA schema_version").fetchone()
        return connection
    except sqlite3.OperationalError:
        if not path.is_file() or Path(f"{path}-wal").exists():
            raise
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
