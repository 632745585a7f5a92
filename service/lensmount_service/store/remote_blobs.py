"""Adapter files in an object store, for servers on several machines or more files than the disk should hold.

What is in the store counts; the folder of `BlobStore` in front of it holds what was used last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import obstore
import obstore.store
import structlog
from obstore.exceptions import BaseError

from lensmount_adapters.adapter.file import digest_of
from lensmount_service.errors import Unavailable
from lensmount_service.store.blobs import Alone, BlobStore, corrupt

log = structlog.get_logger(__name__)

TIMEOUT_S = 20
RETRIES = 2


class RemoteBlobs:
    """`RemoteBlobs("s3://bucket/prefix", BlobStore(folder), 10**9)`: the store is asked for what is not in the folder.

    s3://, gs://, az:// and file:// URLs; credentials and endpoint from the cloud's own variables (AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID, ...). `max_local_bytes` bounds the folder, the least recently used files going first.
    """

    def __init__(self, url: str, local: BlobStore, max_local_bytes: int) -> None:
        """Raises Unavailable (`store_unavailable`) where the URL is none of an object store."""
        self._local = local
        self._max_local_bytes = max_local_bytes
        network = {
            "client_options": {"timeout": f"{TIMEOUT_S}s", "allow_http": True},  # as the endpoint's own URL says
            "retry_config": {"max_retries": RETRIES},
        }
        try:
            options = {"mkdir": True} if url.startswith("file:") else network
            self._store = obstore.store.from_url(url, **options)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise Unavailable(
                "found a URL for the adapters' files that is none of an object store, expected s3://bucket/prefix, "
                "gs://..., az://... or file:///folder",
                code="store_unavailable",
            ) from error

    def put(self, data: bytes) -> str:
        """The store first: a version that is published can be read by every server."""
        digest = digest_of(data)
        with _translated():
            obstore.put(self._store, _key(digest), data)
        self._local.put(data)
        self._local.make_room(self._max_local_bytes, but=digest)
        return digest

    def get(self, digest: str) -> bytes:
        """Raises Unavailable: `adapter_corrupt` where the store has it not whole, else `store_unavailable`."""
        if self._local.holds(digest):
            try:
                data = self._local.get(digest)
                self._local.touch(digest)
                return data
            except Unavailable as damaged:  # by the disk: the store has another copy
                log.warning("file read anew from the store", digest=digest, reason=str(damaged))
        with _translated():
            try:
                data = bytes(obstore.get(self._store, _key(digest)).bytes())
            except FileNotFoundError as error:
                raise corrupt(digest, "it is not in the object store") from error
        if digest_of(data) != digest:
            raise corrupt(digest, "the bytes in the object store do not match the digest")
        self._local.put(data)
        self._local.make_room(self._max_local_bytes, but=digest)
        return data

    def delete(self, digest: str) -> None:
        with _translated(), contextlib.suppress(FileNotFoundError):  # gone already
            obstore.delete(self._store, _key(digest))
        self._local.delete(digest)

    def tier(self, digest: str) -> str:
        return "file" if self._local.holds(digest) else "remote"

    def holds(self, digest: str) -> bool:
        with _translated():
            try:
                obstore.head(self._store, _key(digest))
            except FileNotFoundError:
                return False
        return True

    def remove_orphans(self, alone: Alone, before: float) -> int:
        """In the store too: a prefix belongs to one database.

        Raises Unavailable where the store has files and the database no adapter: the two are not each other's.
        """
        with _translated():
            found = obstore.list(self._store).collect()
        with alone() as needed:
            keep = {_key(digest) for digest in needed}
            if found and not keep:
                raise Unavailable(
                    f"found {len(found)} files in the object store and no adapter in the database, expected the "
                    "database that they belong to. Fix: --database or --state",
                    code="store_unavailable",
                )
            gone = [
                one["path"] for one in found if one["path"] not in keep and one["last_modified"].timestamp() < before
            ]
            with _translated(), contextlib.suppress(FileNotFoundError):  # removed by somebody else: the next time
                obstore.delete(self._store, gone)
            return len(gone) + self._local.remove_orphans(lambda: contextlib.nullcontext(needed), before)


def _key(digest: str) -> str:
    return digest.removeprefix("sha256:")


@contextmanager
def _translated() -> Iterator[None]:
    """The library's errors as Unavailable; a bucket that is not there is FileNotFoundError to it."""
    try:
        yield
    except (BaseError, OSError) as error:
        said = str(error).partition("\n")[0][:200]
        raise Unavailable(
            f"the object store of the adapters cannot be used now ({said}). Fix: try again, or see its credentials",
            code="store_unavailable",
            retry_after_s=5,
        ) from error
