"""Adapter files in an object store, for servers on several machines or for more files than the disk should hold.

The object store is authoritative. A `BlobStore` folder in front of it caches the most recently used files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import structlog

from lensmount_adapters.adapter.file import digest_of
from lensmount_service.errors import Unavailable
from lensmount_service.store.blobs import Alone, BlobStore, corrupt
from lensmount_service.store.remote.objects import Objects, Stored
from lensmount_service.tracing.span import stage

log = structlog.get_logger(__name__)


class RemoteBlobs:
    """`RemoteBlobs(Objects("s3://bucket/prefix"), BlobStore(folder), 10**9)`: what the folder lacks is read from there.

    `max_local_bytes` bounds the folder; the least recently used files are removed first.
    """

    def __init__(self, objects: Objects, local: BlobStore, max_local_bytes: int) -> None:
        self.objects = objects
        self._local = local
        self._max_local_bytes = max_local_bytes

    def put(self, data: bytes) -> str:
        """Writes to the store first, so that every server can read a published version."""
        digest = digest_of(data)
        self.objects.create(_key(digest), data)
        self._local.put(data)
        self._local.make_room(self._max_local_bytes, but=digest)
        return digest

    def put_again(self, data: bytes) -> None:
        """If the store cannot be asked now, it has what it got a moment ago."""
        digest = digest_of(data)
        try:
            is_there = self.holds(digest)
        except Unavailable as error:
            log.warning("stored file not looked for again", digest=digest, reason=str(error))
            return
        if not is_there:
            self.put(data)

    def get(self, digest: str) -> bytes:
        """Raises Unavailable: `adapter_corrupt` if the store's copy is missing or damaged, or `store_unavailable`."""
        if self._local.holds(digest):
            try:
                data = self._local.get(digest)
                self._local.touch(digest)
                return data
            except Unavailable as damaged:  # on this disk; the store has another copy
                log.warning("damaged file read again from the store", digest=digest, reason=str(damaged))
        with stage("fetch", digest=digest):
            try:
                data = self.objects.read(_key(digest))
            except FileNotFoundError as error:
                raise corrupt(digest, "it is not in the object store") from error
        if digest_of(data) != digest:
            raise corrupt(digest, "the bytes in the object store do not match the digest")
        self._local.put(data)
        self._local.make_room(self._max_local_bytes, but=digest)
        return data

    def delete(self, digest: str) -> None:
        """What the store does not remove now stays there until `lensmount gc --blobs`."""
        try:
            self.objects.delete([_key(digest)], quick=True)
        except Unavailable as error:
            log.warning("file left for lensmount gc", digest=digest, reason=str(error))
        self._local.delete(digest)

    def tier(self, digest: str) -> str:
        return "file" if self._local.holds(digest) else "remote"

    def holds(self, digest: str) -> bool:
        return self.objects.size(_key(digest)) is not None

    def digests(self) -> set[str]:
        """Those in the store."""
        return {f"sha256:{file.key}" for file in self._stored()}

    def pieces(self, digest: str) -> Iterator[bytes]:
        """From the store; the folder that caches its files stays as it is."""
        return self.objects.pieces(_key(digest))

    def remove_orphans(self, alone: Alone, before: float) -> int:
        """Also removes orphans from the store, because a prefix belongs to one database.

        Raises Unavailable if the store has files and the database has no adapter: they do not belong together.
        """
        stored = self._stored()
        with alone() as needed:
            keep = {_key(digest) for digest in needed}
            if stored and not keep:
                raise Unavailable(
                    f"found {len(stored)} files in the object store and no adapter in the database, expected the "
                    "database that they belong to. Fix: set --database or --state",
                    code="store_unavailable",
                )
            gone = [file.key for file in stored if file.key not in keep and file.modified_at < before]
            self.objects.delete(gone)
            return len(gone) + self._local.remove_orphans(lambda: contextlib.nullcontext(needed), before)

    def _stored(self) -> list[Stored]:
        """The adapters; files of other kinds are below a prefix of their own."""
        return [file for file in self.objects.listed() if re.fullmatch(r"[0-9a-f]{64}", file.key)]


def _key(digest: str) -> str:
    return digest.removeprefix("sha256:")
