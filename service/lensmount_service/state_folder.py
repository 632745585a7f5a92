"""The state folder: made for its owner alone, checked before a start, and locked while it is used.

It has datasets, adapters and the audit log, so only its owner should be able to read it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from lensmount_service.errors import Unavailable

log = structlog.get_logger(__name__)

OTHERS = 0o077  # the rights of the group and of everybody else
DATABASE = "registry.sqlite3"
FOLDERS = ("audit", "blobs", "datasets", "exports", "jobs", "pools", "programs", "reviews", "worker")
LOCK = ".lock"
RESTORING = ".restoring"  # a restore that has not finished
RECOVERED = f"{DATABASE}.recovered"  # a database that was rebuilt and is not in its place yet


def open_state_folder(folder: Path) -> None:
    """Create the folder for its owner alone. One that exists stays as it is; if others may read it, the log says so.

    Raises Unavailable (`store_unavailable`) with the reason and the fix if a server could not work in it.
    """
    try:
        _make(folder)
        _require_finished(folder)
        _require_parts(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(folder, error) from error


def _make(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        if os.name == "posix" and folder.stat().st_mode & OTHERS:
            log.warning("the state folder can be read by others", state=str(folder), fix=f"chmod 700 {folder}")


def _require_finished(folder: Path) -> None:
    for name, what, command in (
        (RESTORING, "restore", "lensmount restore FROM"),
        (RECOVERED, "recovery", "lensmount store recover"),
    ):
        if (folder / name).exists():
            raise _refused(
                f"found {folder / name}, which a {what} left that did not finish, expected a finished {what}",
                f"run `{command} --state {folder}` again",
            )


def _require_parts(folder: Path) -> None:
    for name in FOLDERS:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise _refused(f"found a file at {folder / name}, expected a folder", "move it to another place")
    if (folder / DATABASE).is_dir():
        raise _refused(f"found a folder at {folder / DATABASE}, expected a database", "move it to another place")


def _unusable(folder: Path, error: OSError) -> Unavailable:
    """The error of the operating system, as a sentence about the state folder."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return _refused(
            f"found a file at {error.filename or folder}, expected a folder for the state",
            "give another folder with --state, or move the file to another place",
        )
    if error.errno == errno.EROFS:
        return _refused(
            f"found the state folder {folder} on a disk that can only be read, expected one that can be written",
            "mount it for writing, or give another folder with --state",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _refused(
            f"found the state folder {folder} of {_owner(folder)}, in which this user ({_name(os.geteuid())}) may not "
            "write",
            f"run `chown -R {_name(os.geteuid())} {folder}` and `chmod u+rwx {folder}` as its owner or root, or give "
            "another folder with --state",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _refused(f"found the disk of the state folder {folder} full", "free space on it and start again")
    return _refused(f"the state folder {folder} cannot be used ({error.strerror})", "give another folder with --state")


def _owner(folder: Path) -> str:
    """The owner of the folder, or of the closest folder above it that exists."""
    for path in (folder, *folder.parents):
        try:
            return _name(path.stat().st_uid)
        except OSError:
            continue
    return "an unknown user"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _refused(found: str, fix: str) -> Unavailable:
    return Unavailable(f"{found}. Fix: {fix}", code="store_unavailable")


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Say that a server or a worker uses the folder; several may. Raises Unavailable while `alone_in` holds it."""
    with _locked(folder, fcntl.LOCK_SH, "another command repairs or restores it now", "wait until it has finished"):
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Use the folder as the only process. Raises Unavailable while a server or a worker uses it."""
    with _locked(folder, fcntl.LOCK_EX, "a server or a worker uses it now", "stop it first"):
        yield


@contextmanager
def _locked(folder: Path, kind: int, otherwise: str, fix: str) -> Iterator[None]:
    """The operating system ends the lock with the process, however that ends."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _refused(f"found the state folder {folder} in use: {otherwise}", fix) from error
        yield
    finally:
        os.close(handle)
