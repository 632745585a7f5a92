"""Adapter files in an object store, for servers on several machines or for more files than the disk should hold.

The object store is authoritative. A `BlobStore` folder in front of it caches the most recently used files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import obstore
import obstore.store
import structlog
from obstore.exceptions import BaseError

from lensmount_adapters.adapter.file import digest_of
from lensmount_service.errors import Unavailable
from lensmount_service.store.blobs import Alone, BlobStore, corrupt
from lensmount_service.tracing.span import stage

log = structlog.get_logger(__name__)

TIMEOUT_S = 20
RETRIES = 2


class RemoteBlobs:
    """`RemoteBlobs("s3://bucket/prefix", BlobStore(folder), 10**9)` reads a file from the store if the folder lacks it.

    Takes s3://, gs://, az:// and file:// URLs. Credentials and endpoint come from the cloud's own variables
    (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...). `max_local_bytes` bounds the folder; the least recently used files are
    removed first.
    """

    def __init__(self, url: str, local: BlobStore, max_local_bytes: int) -> None:
        """Raises Unavailable (`store_unavailable`) if the URL is not that of an object store."""
        self._local = local
        self._max_local_bytes = max_local_bytes
        network = {
            "client_options": {"timeout": f"{TIMEOUT_S}s", "allow_http": True},  # the endpoint's URL decides
            "retry_config": {"max_retries": RETRIES},
        }
        try:
            options = {"mkdir": True} if url.startswith("file:") else network
            self._store = obstore.store.from_url(url, **options)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise Unavailable(
                "found a URL for adapter files that is not an object store's, expected s3://bucket/prefix, "
                "gs://..., az://... or file:///folder",
                code="store_unavailable",
            ) from error

    def put(self, data: bytes) -> str:
        """Writes to the store first, so that every server can read a published version."""
        digest = digest_of(data)
        with _translated():
            obstore.put(self._store, _key(digest), data)
        self._local.put(data)
        self._local.make_room(self._max_local_bytes, but=digest)
        return digest

    def get(self, digest: str) -> bytes:
        """Raises Unavailable: `adapter_corrupt` if the store's copy is missing or damaged, or `store_unavailable`."""
        if self._local.holds(digest):
            try:
                data = self._local.get(digest)
                self._local.touch(digest)
                return data
            except Unavailable as damaged:  # on this disk; the store has another copy
                log.warning("damaged file read again from the store", digest=digest, reason=str(damaged))
        with _translated(), stage("fetch", digest=digest):
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
        with _translated(), contextlib.suppress(FileNotFoundError):  # already gone
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

    def digests(self) -> set[str]:
        """Those in the store."""
        with _translated():
            stored = obstore.list(self._store).collect()
        return {f"sha256:{file['path']}" for file in stored if re.fullmatch(r"[0-9a-f]{64}", file["path"])}

    def pieces(self, digest: str) -> Iterator[bytes]:
        """From the store; the folder that caches its files stays as it is."""
        with _translated():
            data: bytes | None = None
            with contextlib.suppress(FileNotFoundError):
                data = bytes(obstore.get(self._store, _key(digest)).bytes())
        if data is None:
            raise FileNotFoundError(digest)
        yield data

    def remove_orphans(self, alone: Alone, before: float) -> int:
        """Also removes orphans from the store, because a prefix belongs to one database.

        Raises Unavailable if the store has files and the database has no adapter: they do not belong together.
        """
        with _translated():
            stored = obstore.list(self._store).collect()
        with alone() as needed:
            keep = {_key(digest) for digest in needed}
            if stored and not keep:
                raise Unavailable(
                    f"found {len(stored)} files in the object store and no adapter in the database, expected the "
                    "database that they belong to. Fix: set --database or --state",
                    code="store_unavailable",
                )
            gone = [
                file["path"]
                for file in stored
                if file["path"] not in keep and file["last_modified"].timestamp() < before
            ]
            with (
                _translated(),
                contextlib.suppress(FileNotFoundError),
            ):  # another process removed one; the rest goes next time
                obstore.delete(self._store, gone)
            return len(gone) + self._local.remove_orphans(lambda: contextlib.nullcontext(needed), before)


def _key(digest: str) -> str:
    return digest.removeprefix("sha256:")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the library's errors into Unavailable. A missing bucket is a FileNotFoundError there."""
    try:
        yield
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise Unavailable(
            f"the object store of the adapters cannot be used now ({reason}). Fix: try again, or check its credentials",
            code="store_unavailable",
            retry_after_s=5,
        ) from error
