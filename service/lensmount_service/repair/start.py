"""Before a start: whether a server can work with its state. Each refusal says what was found and what helps."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import sqlalchemy as sa

from lensmount_service.errors import StorageFull, StoreDamaged, Unavailable
from lensmount_service.repair.shelves import open_shelves
from lensmount_service.state_folder import in_use, open_state_folder
from lensmount_service.store.adapter_rows import version_table
from lensmount_service.store.database import Database
from lensmount_service.store.faults import reason_of


def require_usable(state: Path, url: str | Path, *, blobs_elsewhere: bool = False) -> None:
    """Create the state folder, check the database and bring it to the newest schema.

    Raises Unavailable if the folder or the database cannot be used, StoreDamaged if the database is damaged, or
    StorageFull.
    """
    open_state_folder(state)
    with in_use(state), contextlib.closing(Database(url)) as database:
        try:
            if database.file is not None and database.file.exists():
                database.check()
            with database.read() as connection:
                is_new = not sa.inspect(connection).has_table(version_table.name)
            if is_new:
                _require_no_files(state, database, blobs_elsewhere)
            database.create()
        except StoreDamaged as error:
            raise StoreDamaged(_damaged(state, database, reason_of(error.__cause__ or error))) from error
        except StorageFull as error:
            raise StorageFull(
                f"found the disk of the database of {state} full, expected some space. Fix: free some, for example by "
                f"removing {state / 'programs'} and {state / 'exports'}, which a server makes again, and start again"
            ) from error
        except Unavailable as error:
            if error.code != "store_read_only" or database.file is None:
                raise
            raise Unavailable(
                f"found {database.file}, which can only be read, expected a database that can be written. "
                f"Fix: run `chmod u+w {shlex.quote(str(database.file))}`, or mount its disk for writing",
                code="store_read_only",
            ) from error


def _require_no_files(state: Path, database: Database, blobs_elsewhere: bool) -> None:
    """A new database has no rows, so a server would remove all files of the one that is gone."""
    shelves = open_shelves(state)
    counts = {f"{kind}s": len(shelf.digests()) for kind, shelf in shelves.items()}
    if blobs_elsewhere:
        del counts["adapters"]  # they are copies
    if not any(counts.values()):
        return
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    where = database.file or "the PostgreSQL database"
    raise Unavailable(
        f"found {found} in {state} and no tables in {where}, expected the database that they belong to. "
        f"Fix: run `lensmount store recover --adopt --state {shlex.quote(str(state))}`, which publishes them again, "
        "or restore a backup into a new folder",
        code="store_unavailable",
    )


def _damaged(state: Path, database: Database, reason: str) -> str:
    if database.file is None:
        return f"found a damaged database ({reason}), expected one that PostgreSQL reads. Fix: restore a backup of it"
    return (
        f"found a damaged database, {database.file} ({reason}), expected one that SQLite reads without errors. "
        f"Fix: run `lensmount store recover --state {shlex.quote(str(state))}`"
    )
