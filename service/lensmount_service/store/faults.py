"""What a fault of the database or the disk means for a client: to try again, to free space, or to wait for a person."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager

from lensmount_service.errors import ServiceError, StorageFull, StoreDamaged, Unavailable

UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError)  # what a damaged text in a row raises
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DAMAGED = ("malformed", "not a database", "corrupt", "could not decode", "invalid page")


def fault_of_database(error: Exception) -> ServiceError:
    """The error of a driver, of SQLAlchemy or of a stored JSON text, as an error of the service."""
    reason = str(getattr(error, "orig", None) or error)
    if "full" in reason or "No space left" in reason:
        return StorageFull(
            "the disk that holds the database is full. Fix: free space, for example with DELETE ?purge=true, and try "
            "again"
        )
    if "readonly" in reason or "read-only" in reason:
        return read_only("the database")
    if is_damage(error):
        return StoreDamaged(
            f"the database is damaged ({reason_of(error)}). Fix: stop the server and run `lensmount store recover`, or "
            "restore a backup"
        )
    return Unavailable(
        f"the database cannot be used now ({reason_of(error)})", code="store_unavailable", retry_after_s=1
    )


def reason_of(error: BaseException) -> str:
    """The first line of what the driver said."""
    reason = str(getattr(error, "orig", None) or error)
    return reason.splitlines()[0][:200] if reason else "no reason given"


def is_damage(error: Exception) -> bool:
    """True if waiting cannot help: bytes of the database are not what was written."""
    reason = str(getattr(error, "orig", None) or error).lower()
    return isinstance(error, UNREADABLE) or any(word in reason for word in _DAMAGED)


def fault_of_disk(error: OSError, what: str) -> ServiceError:
    """An error of the operating system about files, which `what` names, as an error of the service."""
    if error.errno in _FULL:
        return StorageFull(
            f"the disk that holds {what} is full. Fix: free space, for example with DELETE ?purge=true, and try again"
        )
    if error.errno == errno.EROFS:
        return read_only(what)
    return Unavailable(
        f"{what} cannot be read or written ({error.strerror})", code="store_unavailable", retry_after_s=1
    )


def read_only(what: str) -> Unavailable:
    return Unavailable(
        f"{what} can only be read now; predictions are still answered. Fix: make the disk of the state folder writable",
        code="store_read_only",
    )


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn disk errors into StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        raise fault_of_disk(error, what) from error
