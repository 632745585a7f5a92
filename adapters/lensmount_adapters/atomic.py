"""Write a file so that a crash at any moment leaves either the old file or the new one, never a partial one."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from lensmount_adapters.faults import fault


def write_atomic(path: Path, data: bytes) -> None:
    """Write a temporary file next to `path`, fsync it, rename it and fsync the folder.

    On an error it raises OSError and removes the temporary file. A pipe or a device is an error, because the
    rename would replace it, even /dev/null.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "found something else than a file there", str(path))
    fault("atomic.create")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)  # mkstemp creates files with 0600, which suits secrets only
            fault("atomic.write")
            file.write(data)
            file.flush()
            fault("atomic.fsync")
            os.fsync(file.fileno())
        fault("atomic.rename")
        os.replace(temporary, path)  # noqa: PTH105  # os calls throughout: they show the sequence of system calls
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename or an unlink in `folder` survive power loss."""
    fault("folder.fsync")
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
