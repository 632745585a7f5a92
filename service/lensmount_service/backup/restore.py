"""Puts a backup into an empty state folder: all of it or nothing.

Every file is copied and checked inside the folder `.restoring`, and the database is brought to the newest schema there.
Then they are moved to their places. While `.restoring` exists no server starts, and the same command begins again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.faults import fault
from lensmount_service.backup.folder import BackupFolder, FileDamaged
from lensmount_service.backup.manifest import BackupManifest, Entry, read_manifest
from lensmount_service.errors import Unavailable
from lensmount_service.state_folder import DATABASE, FOLDERS, LOCK, RESTORING, alone_in
from lensmount_service.store.blobs import Blobs
from lensmount_service.store.database import SCHEMA_VERSION, Database
from lensmount_service.store.faults import storage

IGNORED = frozenset({LOCK, "lost+found"})  # what an empty folder may have


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, from which manifest, and the schema before a migration."""

    manifest: BackupManifest
    path: Path
    schema_before: int


def restore_backup(
    folder: BackupFolder, state: Path, at: str | None = None, store: Callable[[], Blobs] | None = None
) -> Restored:
    """Restore the newest backup, or the one of a time. `store` opens the object store that keeps the adapters, if any.

    Raises Unavailable (`store_unavailable`) or StorageFull, and then the state folder is as before.
    """
    path = folder.find(at)
    manifest = read_manifest(path)
    _require_schema(manifest, path)
    _require_empty(state)
    with storage("the state folder"):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone_in(state):
        _require_empty(state)
        staging = state / RESTORING
        _clear(state)
        try:
            with storage("the state folder"):
                staging.mkdir(mode=0o700)
                fsync_folder(state)
                _stage(folder, manifest.files, staging)
            if DATABASE in manifest.files:
                _migrate(staging / DATABASE)
            if store is not None:
                _put_into_store(staging / "blobs", store())
            with storage("the state folder"):
                _move(staging, state)
        except FileDamaged as error:
            _clear(state)
            raise _damaged(folder, manifest, str(error)) from error
        except BaseException:
            _clear(state)
            raise
    return Restored(manifest, path, manifest.schema_version)


def _require_schema(manifest: BackupManifest, path: Path) -> None:
    if manifest.schema_version > SCHEMA_VERSION:
        raise Unavailable(
            f"found a backup of schema {manifest.schema_version}, made by Lensmount {manifest.lensmount} ({path}), "
            f"expected at most schema {SCHEMA_VERSION}. Fix: restore it with Lensmount {manifest.lensmount} or newer",
            code="store_unavailable",
        )


def _require_empty(state: Path) -> None:
    """An empty folder, none at all, or one in which a restore did not finish."""
    if not state.exists() or (state / RESTORING).is_dir():
        return
    if not state.is_dir():
        raise _refused(f"found a file at {state}, expected a folder", "give another folder with --state")
    found = sorted(path.name for path in state.iterdir() if path.name not in IGNORED)
    if found:
        raise _refused(
            f"found {len(found)} files and folders in {state}, such as {found[0]}, expected an empty folder",
            "give a new folder with --state, and start the server with it; or stop the server and move this one away",
        )


def _clear(state: Path) -> None:
    """Remove what an unfinished restore left; its mark goes last."""
    if not (state / RESTORING).exists():
        return
    for name in FOLDERS:
        shutil.rmtree(state / name, ignore_errors=True)
    for path in state.glob(f"{DATABASE}*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(state / RESTORING, ignore_errors=True)


def _stage(folder: BackupFolder, files: Mapping[str, Entry], staging: Path) -> None:
    for name, entry in files.items():
        target = staging / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fault("restore.copy")
        try:
            folder.copy(entry.digest, target)
        except FileNotFoundError as error:
            raise FileDamaged(entry.digest) from error
        if entry.modified_ns is not None:
            os.utime(target, ns=(entry.modified_ns, entry.modified_ns))
    for directory in (path for path in staging.rglob("*") if path.is_dir()):
        fsync_folder(directory)
    fsync_folder(staging)


def _migrate(database: Path) -> None:
    """Show that the database opens here, and bring it to this schema. Raises Unavailable."""
    fault("restore.migrate")
    with contextlib.closing(Database(database)) as opened:
        opened.check()
        opened.create()
    Path(f"{database}.reserve").unlink(missing_ok=True)


def _put_into_store(folder: Path, blobs: Blobs) -> None:
    """The store keeps files by digest, so those of a restore that does not finish are only left over."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        blobs.put(path.read_bytes())
    shutil.rmtree(folder, ignore_errors=True)


def _move(staging: Path, state: Path) -> None:
    """The database goes last, and then the mark that the restore is unfinished."""
    for path in sorted(staging.iterdir(), key=lambda path: (path.name == DATABASE, path.name)):
        fault("restore.move")
        if path.is_dir():
            shutil.rmtree(state / path.name, ignore_errors=True)  # the cache of an object store, which is empty yet
        path.replace(state / path.name)
        fsync_folder(state)
    fault("restore.finish")
    staging.rmdir()
    fsync_folder(state)


def _damaged(folder: BackupFolder, manifest: BackupManifest, digest: str) -> Unavailable:
    name = next((name for name, entry in manifest.files.items() if entry.digest == digest), digest)
    return _refused(
        f"found {folder.file(digest)} missing or with other bytes than its name says ({name} of the backup of "
        f"{manifest.created_at}), expected the bytes that were backed up; nothing was restored",
        "choose an earlier backup with --at, or, while the state still exists, run `lensmount backup --verify`, which "
        "copies such files again",
    )


def _refused(found: str, fix: str) -> Unavailable:
    return Unavailable(f"{found}. Fix: {fix}", code="store_unavailable")
