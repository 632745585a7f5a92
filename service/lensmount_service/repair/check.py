"""Whether the database can be read, whether each of its files is there with its digest, and what is left over.

Nothing is written, so a check may run next to a server. The bytes of every file are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.errors import AdapterError
from lensmount_service.errors import ServiceError
from lensmount_service.repair.inventory import Key, Kind, Needed, needed_files, reading_file
from lensmount_service.repair.scrubber import ORPHAN_AGE_S
from lensmount_service.repair.shelves import Shelf, state_of
from lensmount_service.store.database import SCHEMA_VERSION, Database
from lensmount_service.store.faults import UNREADABLE

MOST_LINES = 20  # of SQLite's own findings

RECOVER = "stop the server and run `lensmount store recover`"
ADOPT = "stop the server and run `lensmount store recover --adopt`, or restore a backup"
SEND_AGAIN = "send the same file again, or restore it from a backup"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `what` it concerns, `found` in words, and the `fix`."""

    kind: str  # database, row, damaged, missing or orphan
    what: str
    found: str
    fix: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings, none if all is well, and how much was read."""

    findings: tuple[Finding, ...]
    files: int
    bytes_read: int


def check_store(database: Database, shelves: Mapping[Kind, Shelf]) -> Checked:
    """Raises Unavailable if a file or the object store cannot be read now."""
    findings: list[Finding] = []
    needed: dict[Key, Needed] | None = None
    try:
        needed = _read_database(database, findings)
    except ServiceError as error:
        findings.append(Finding("database", _name(database), str(error).partition(". Fix: ")[0], RECOVER))
    count = _Count()
    found = [*_check_files(shelves, needed, count)]
    if needed is not None and any(finding.kind != "orphan" for finding in found):
        still = {each.title for each in _needed_now(database).values()}  # somebody may have deleted a file meanwhile
        found = [finding for finding in found if finding.kind == "orphan" or finding.what in still]
    return Checked((*findings, *found), count.files, count.nbytes)


@dataclass
class _Count:
    files: int = 0
    nbytes: int = 0

    def add(self, nbytes: int) -> None:
        self.nbytes += nbytes


def _name(database: Database) -> str:
    return str(database.file or "PostgreSQL")


def _read_database(database: Database, findings: list[Finding]) -> dict[Key, Needed]:
    """The files that are needed. Adds what is wrong with pages and rows. Raises StoreDamaged, Unavailable."""
    if database.file is None:
        with database.read() as connection:
            findings.extend(_of_rows(connection, "PostgreSQL"))
            return needed_files(connection)
    if not database.file.is_file():
        findings.append(
            Finding("database", str(database.file), "found no database, expected one", "give the server's --state")
        )
        return {}
    with reading_file(database.file) as connection:
        for line in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_LINES})").scalars():
            if line != "ok":
                findings.append(Finding("database", database.file.name, " ".join(str(line).split()), RECOVER))
        findings.extend(_of_rows(connection, database.file.name))
        return needed_files(connection)


def _of_rows(connection: sa.Connection, name: str) -> Iterator[Finding]:
    """Rows that SQL can read and a server cannot use."""
    if name != "PostgreSQL":
        schema = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if schema > SCHEMA_VERSION:
            found = f"found schema {schema}, expected at most {SCHEMA_VERSION}"
            yield Finding("database", name, found, "install the Lensmount that made it")
    inspector = sa.inspect(connection)
    if not inspector.has_table("versions"):
        yield Finding("database", name, "found no tables, expected those of a server", ADOPT)
        return
    live = "deleted_at IS NOT NULL OR NOT deleted"
    if not any(column["name"] == "deleted_at" for column in inspector.get_columns("versions")):
        live = "NOT deleted"
    for row in connection.execute(sa.text(f"SELECT name, version, manifest FROM versions WHERE {live}")):
        if not readable_manifest(row.manifest):
            yield Finding("row", f"{row.name}@{row.version}", "found a manifest that cannot be read", RECOVER)


def readable_manifest(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(Manifest.parse(text))
    except (AdapterError, *UNREADABLE):
        return False


def _check_files(
    shelves: Mapping[Kind, Shelf], needed: Mapping[Key, Needed] | None, count: _Count
) -> Iterator[Finding]:
    """Without a database, files are only compared with their own names."""
    there = {(kind, digest) for kind, shelf in shelves.items() for digest in shelf.digests()}
    for kind, digest in sorted(there if needed is None else needed):
        title = f"{kind} {digest[:19]}..." if needed is None else needed[kind, digest].title
        state = state_of(shelves[kind], digest, count.add)
        count.files += 1
        if state == "missing" and needed is not None:
            yield Finding("missing", title, "found no file", SEND_AGAIN)
        elif state == "damaged":
            yield Finding("damaged", title, "found other bytes than its digest says", SEND_AGAIN)
    if needed is None:
        return
    old = time.time() - ORPHAN_AGE_S
    for kind, digest in sorted(there - needed.keys()):
        if shelves[kind].written_at(digest) < old:
            yield Finding("orphan", f"{kind} {digest[:19]}...", "found a file that no row needs", "run `lensmount gc`")


def _needed_now(database: Database) -> Mapping[Key, Needed]:
    if database.file is None:
        with database.read() as connection:
            return needed_files(connection)
    with reading_file(database.file) as connection:
        return needed_files(connection)
