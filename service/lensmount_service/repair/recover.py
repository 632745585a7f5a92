"""Mends what can be mended in a state folder that no server uses: the database, rows, and files.

A damaged SQLite database is rebuilt from what can be read of it; the damaged file stays in `damaged/`. A damaged file
is moved there too, so that its adapter is quarantined at the next start, and a file that is sent again takes its place.
All this happens next to the old database, which is replaced at the end. After a kill the same command begins again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from lensmount_adapters.adapter.file import AdapterFile, parse_adapter
from lensmount_adapters.adapter.manifest import check_name
from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.faults import fault
from lensmount_service.errors import ServiceError, StoreDamaged
from lensmount_service.repair.check import readable_manifest
from lensmount_service.repair.inventory import Key, Kind, needed_files
from lensmount_service.repair.salvage import Salvaged, salvage
from lensmount_service.repair.shelves import FOLDER_OF, FolderShelf, Shelf, state_of
from lensmount_service.state_folder import RECOVERED
from lensmount_service.store.adapter_rows import alias_table, version_table
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.registry import Registry

DAMAGED = "damaged"  # the folder in the state folder for what was set apart


@dataclass
class Recovered:
    """What was done, in words for people.

    `rows` are those of a database that was rebuilt, and `kept` is where its damaged file is. `set_apart` are damaged
    files and, if the database was rebuilt, intact ones that no row refers to any more: a server would remove them.
    """

    rebuilt: bool = False
    rows: Salvaged | None = None
    kept: str | None = None
    mended_rows: list[str] = field(default_factory=list)
    removed_rows: list[str] = field(default_factory=list)
    set_apart: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)


def recover_store(
    state: Path,
    url: str | Path,
    shelves: Mapping[Kind, Shelf],
    open_datasets: Callable[[Database], DatasetStore] | None = None,
) -> Recovered:
    """Mend the database, then its rows, then the files. With `open_datasets`, adopt what no row refers to.

    Raises ServiceError or OSError. Only one process may use the state folder.
    """
    recovered, apart = Recovered(), state / DAMAGED
    with _mended(url, apart, recovered) as database:
        database.create()
        mend_manifests(database, shelves, recovered)
        if open_datasets is not None:
            _bring_back(shelves, apart)
        orphans = mend_files(database, shelves, apart, recovered)
        if open_datasets is not None:
            with contextlib.closing(open_datasets(database)) as datasets:
                orphans -= _adopt(orphans, Registry(database), datasets, shelves, recovered)
        for kind, digest in sorted(orphans):
            if recovered.rebuilt and shelves[kind].set_apart(digest, apart / kind):
                recovered.set_apart.append(f"{kind} {digest}")
            else:
                recovered.orphans.append(f"{kind} {digest}")
    return recovered


@contextmanager
def _mended(url: str | Path, apart: Path, recovered: Recovered) -> Iterator[Database]:
    """The database, or a rebuilt one next to it that takes its place at the end of the block."""
    with contextlib.closing(Database(url)) as database:
        file = database.file
        if file is None or (not file.with_name(RECOVERED).exists() and file.exists() and not _is_damaged(database)):
            yield database
            return
    rebuilt = file.with_name(RECOVERED)
    recovered.rebuilt = True
    if file.exists() and not rebuilt.exists():
        kept = _keep(file, apart)
        recovered.kept = str(kept)
        recovered.rows = _rebuild(kept, rebuilt)
    with contextlib.closing(Database(rebuilt)) as database:
        yield database
    Path(f"{rebuilt}.reserve").unlink(missing_ok=True)
    for suffix in ("-wal", "-shm"):  # they belong to the damaged file, and SQLite would apply them to the new one
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    fsync_folder(file.parent)
    fault("recover.replace")
    rebuilt.replace(file)
    fsync_folder(file.parent)


def _is_damaged(database: Database) -> bool:
    """Whether a page or a row cannot be read; every row of every table is."""
    try:
        database.check()
        with database.read() as connection:
            present = set(sa.inspect(connection).get_table_names())
            for table in metadata.sorted_tables:
                if table.name in present:
                    _read_rows(connection, table)
            return bool(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one() != "ok")
    except StoreDamaged:
        return True


def _read_rows(connection: sa.Connection, table: sa.Table) -> None:
    """Raises what the driver or the type of a column raises for a value that cannot be read."""
    present = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    for _ in connection.execute(sa.select(*(column for column in table.columns if column.name in present))):
        continue


def _keep(file: Path, folder: Path) -> Path:
    """Copy the damaged file with its log. The copy is what is read, because reading a log changes files."""
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{file.name}"
    for suffix in ("-wal", ""):
        if Path(f"{file}{suffix}").exists():
            fault("recover.keep")
            shutil.copyfile(f"{file}{suffix}", f"{kept}{suffix}")
            _sync(Path(f"{kept}{suffix}"))
    fsync_folder(folder)
    return kept


def _rebuild(kept: Path, rebuilt: Path) -> Salvaged:
    unfinished, readable = rebuilt.with_suffix(".tmp"), kept.with_suffix(".read")
    for path in (unfinished, readable):
        _remove_database(path)
    for suffix in ("", "-wal"):
        if Path(f"{kept}{suffix}").exists():
            shutil.copyfile(f"{kept}{suffix}", f"{readable}{suffix}")
    with contextlib.closing(Database(unfinished)) as fresh:
        fresh.create()
    fault("recover.rebuild")
    salvaged = salvage(readable, unfinished)
    _remove_database(readable)
    Path(f"{unfinished}.reserve").unlink(missing_ok=True)
    _sync(unfinished)
    fault("recover.rebuilt")
    unfinished.replace(rebuilt)
    fsync_folder(rebuilt.parent)
    return salvaged


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".reserve"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _drop_dangling_aliases(connection: sa.Connection) -> None:
    """Aliases of versions whose rows were lost would only lead to errors."""
    same = sa.and_(version_table.c.name == alias_table.c.name, version_table.c.version == alias_table.c.version)
    connection.execute(alias_table.delete().where(~sa.exists().where(same)))


def mend_files(database: Database, shelves: Mapping[Kind, Shelf], apart: Path, recovered: Recovered) -> set[Key]:
    """Set damaged files apart and list what is missing. Returns the files that no row refers to."""
    with database.read() as connection:
        needed = needed_files(connection)
    there = {(kind, digest) for kind, shelf in shelves.items() for digest in shelf.digests()}
    orphans: set[Key] = set()
    for key in sorted(there | needed.keys()):
        kind, digest = key
        title = needed[key].title if key in needed else f"{kind} {digest}"
        state = state_of(shelves[kind], digest) if key in there else "missing"
        if state == "damaged" and shelves[kind].set_apart(digest, apart / kind):
            recovered.set_apart.append(title)
        if state != "intact" and key in needed:
            recovered.missing.append(title)
        elif state == "intact" and key not in needed:
            orphans.add(key)
    return orphans


def mend_manifests(database: Database, shelves: Mapping[Kind, Shelf], recovered: Recovered) -> None:
    """Take a manifest that cannot be read from the adapter's file again; without the file, remove the row.

    In a rebuilt database, every manifest is compared with its file.
    """
    table = version_table.c
    with database.write() as connection:
        for row in connection.execute(sa.select(table.name, table.version, table.digest, table.manifest)).all():
            readable = readable_manifest(row.manifest)
            if readable and not recovered.rebuilt:
                continue
            mine = sa.and_(table.name == row.name, table.version == row.version)
            file = _adapter_file(shelves["adapter"], row.digest)
            if readable and (file is None or file.manifest.dump() == row.manifest):
                continue
            if file is None:
                connection.execute(version_table.delete().where(mine))
                recovered.removed_rows.append(f"{row.name}@{row.version}")
            else:
                connection.execute(version_table.update().where(mine).values(manifest=file.manifest.dump()))
                recovered.mended_rows.append(f"{row.name}@{row.version}")
        _drop_dangling_aliases(connection)


def _adapter_file(shelf: Shelf, digest: str) -> AdapterFile | None:
    """None if the file is gone or damaged, or is not an adapter."""
    try:
        file = parse_adapter(b"".join(shelf.pieces(digest)))
    except (LensmountError, ServiceError, OSError):
        return None
    return file if file.digest == digest else None


def _bring_back(shelves: Mapping[Kind, Shelf], apart: Path) -> None:
    """Files that an earlier recovery set apart because no row referred to them, and that are as they were written."""
    for kind, shelf in shelves.items():
        if isinstance(shelf, FolderShelf):
            set_apart = FolderShelf(apart / kind, FOLDER_OF[kind][1])
            for digest in set_apart.digests() - shelf.digests():
                if state_of(set_apart, digest) == "intact":
                    set_apart.set_apart(digest, shelf.path(digest).parent)


def _adopt(
    orphans: set[Key], registry: Registry, datasets: DatasetStore, shelves: Mapping[Kind, Shelf], recovered: Recovered
) -> set[Key]:
    """Publish adapters and datasets that no row refers to, oldest first. Returns those that it published.

    An adapter gets the name in its manifest if nothing was ever published under it. Otherwise its name is
    recovered-DIGEST, as that of every dataset is. Images do not say to which pool they belong, so they stay.
    """
    adopted: set[Key] = set()
    free: dict[str, bool] = {}
    for kind, digest in sorted(orphans, key=lambda key: (shelves[key[0]].written_at(key[1]), key)):
        new_name = f"recovered-{digest.removeprefix('sha256:')[:12]}"
        if kind == "adapter":
            file = _adapter_file(shelves[kind], digest)
            if file is None:
                continue
            name = file.manifest.name
            if not check_name(name) or not free.setdefault(name, not registry.was_ever_published(name)):
                name = new_name
            number = registry.publish(name, digest, file.size_bytes, file.manifest)[0].version
            recovered.adopted.append(f"adapter {name}@{number}")
        elif kind == "dataset":
            try:
                datasets.admit(new_name, datasets.files.path(digest), digest)
            except (LensmountError, ServiceError):
                continue
            recovered.adopted.append(f"dataset {new_name}@1")
        else:
            continue
        adopted.add((kind, digest))
    return adopted
