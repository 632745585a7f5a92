"""The names of one tenant: which key each stands for, and errors in the words of the one who asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lensmount_adapters.errors import LensmountError
from lensmount_service.access.identity import Identity
from lensmount_service.errors import Forbidden, ServiceError
from lensmount_service.jobs.records import DatasetPin
from lensmount_service.store.keys import is_public, key_of
from lensmount_service.store.shares import Kind, Shares


@dataclass(frozen=True, slots=True)
class Space:
    """`space.key("adapter", "public/malaria")`, `with space.own("cells") as key: ...`; safe from any thread.

    `job_data` is for the worker of a job: its dataset, which it reads even if that is shared no longer.
    """

    identity: Identity
    shares: Shares
    job_data: DatasetPin | None = None

    @property
    def tenant(self) -> str:
        return self.identity.tenant

    def key(self, kind: Kind, name: str) -> str:
        """The key that a name stands for, whether or not something has it. Raises NotFound for a public name only."""
        held = self.job_data
        if kind == "dataset" and held is not None and held.key is not None and held.name == name:
            return held.key
        return self.shares.key(kind, name) if is_public(name) else key_of(self.tenant, name)

    def key_cached(self, kind: Kind, name: str) -> str | None:
        """`key`, or None if that would read the database. Never blocks."""
        return self.shares.key_cached(kind, name) if is_public(name) else key_of(self.tenant, name)

    @contextmanager
    def reading(self, kind: Kind, name: str) -> Iterator[str]:
        """The key of an own or a public name. Errors that name the key name the name instead."""
        key = self.key(kind, name)
        with _told(key, name):
            yield key

    @contextmanager
    def own(self, name: str) -> Iterator[str]:
        """The key of a name that may be changed. Raises Forbidden (`public_read_only`) for public/NAME."""
        if is_public(name):
            raise Forbidden(
                f"found {name[:80]!r}, which is shared by its owner and can only be read. "
                "Fix: choose a name of your own, without public/",
                code="public_read_only",
            )
        key = key_of(self.tenant, name)
        with _told(key, name):
            yield key


@contextmanager
def _told(key: str, name: str) -> Iterator[None]:
    """Replace a key in the messages of errors; stores know nothing else."""
    if key == name:
        yield
        return
    try:
        yield
    except (ServiceError, LensmountError) as error:
        error.args = (in_words(str(error), key, name),)
        raise


def in_words(message: str, key: str, name: str) -> str:
    """A message with the name in place of the key.

    A key without a slash is replaced only in quotes, paths and references with a version.
    """
    for long, short in ((key, name), (key[:80], name[:80])):
        if "/" not in key:
            message = message.replace(repr(long), repr(short)).replace(f"/{long}/", f"/{short}/")
            message = re.sub(rf"(?<![\w./-]){re.escape(long)}(?=@\d)", short.replace("\\", r"\\"), message)
        else:
            message = message.replace(long, short).replace(repr(long)[1:-1], repr(short)[1:-1])
    return message
