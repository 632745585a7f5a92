"""Named files in an object store. Every server that has its URL sees each change at once.

One prefix belongs to one database: adapters are there as HEX, datasets as datasets/HEX.zip, images of pools as
pools/HEX and the files of jobs below jobs/.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import obstore
import obstore.store
from obstore.exceptions import AlreadyExistsError, BaseError

from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.faults import fault
from lensmount_service.errors import Unavailable

TIMEOUT_S = 20  # of one request; a large file takes one request for each part
RETRIES = 2
QUICK_S = 4  # of one request within a transaction, which keeps other writers waiting; PostgreSQL ends it after 10 s
PART_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store, and when it was last written in seconds since 1970, by the store's clock."""

    key: str
    size_bytes: int
    modified_at: float


class Objects:
    """`Objects("s3://bucket/prefix").create("abc", b"...")`; safe from any thread.

    Takes s3://, gs://, az:// and file:// URLs. Credentials and endpoint come from the cloud's own variables
    (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...). Every failure is Unavailable (`store_unavailable`).
    """

    def __init__(self, url: str) -> None:
        """Does not connect yet. Raises Unavailable if the URL is not that of an object store."""
        self._store = _opened(url, TIMEOUT_S, RETRIES)
        self._quick = _opened(url, QUICK_S, 0)

    def create(self, key: str, data: bytes) -> None:
        """Store bytes under a key that names them, unless the store has them. Damaged bytes are replaced.

        Of two servers that do so at once, one writes and the other finds the same bytes.
        """
        with translated():
            fault("objects.create")
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if digest_of(bytes(obstore.get(self._store, key).bytes())) != digest_of(data):
                    obstore.put(self._store, key, data, use_multipart=False)

    def upload(self, key: str, path: Path) -> None:
        """Store a file of any size, in parts."""
        with translated(), path.open("rb") as file:
            fault("objects.create")
            obstore.put(self._store, key, file, chunk_size=PART_BYTES)

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError."""
        with self._reading(key):
            return bytes(obstore.get(self._store, key).bytes())

    def pieces(self, key: str) -> Iterator[bytes]:
        """The bytes of a file of any size, in parts. Raises FileNotFoundError."""
        size = self.size(key)
        if size is None:
            raise FileNotFoundError(key)
        for start in range(0, size, PART_BYTES):
            with self._reading(key):
                part = bytes(obstore.get_range(self._store, key, start=start, end=min(size, start + PART_BYTES)))
            yield part

    def download(self, key: str, path: Path, digest: str) -> None:
        """Write a file to a path, complete or not at all. Raises FileNotFoundError, also for another SHA-256."""
        hashing = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                for part in self.pieces(key):
                    hashing.update(part)
                    file.write(part)
                if f"sha256:{hashing.hexdigest()}" != digest:
                    raise FileNotFoundError(f"{key}: its bytes in the object store do not match its digest")
                file.close()
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        """A copy of a file, which stays readable. The caller closes it. Raises FileNotFoundError."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        try:
            file.writelines(self.pieces(key))
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def size(self, key: str) -> int | None:
        """Bytes of a file; None if there is none."""
        with translated():
            try:
                return int(obstore.head(self._store, key)["size"])
            except FileNotFoundError:
                pass
            self._require_bucket()
        return None

    def listed(self, prefix: str | None = None, *, quick: bool = False) -> list[Stored]:
        """The files below a prefix, such as "datasets"; without one, those that are below none."""
        store = self._quick if quick else self._store
        with translated():
            if prefix is None:
                found = obstore.list_with_delimiter(store)["objects"]
            else:
                found = obstore.list(store, prefix).collect()
        return [Stored(each["path"], each["size"], each["last_modified"].timestamp()) for each in found]

    def delete(self, keys: Sequence[str], *, quick: bool = False) -> None:
        """Succeeds for those that are gone already. `quick` is for callers that keep other writers waiting."""
        store = self._quick if quick else self._store
        with translated():
            fault("objects.delete")
            try:
                obstore.delete(store, list(keys))
            except FileNotFoundError:  # a folder by file:// stops at a file that is gone
                self._require_bucket()
                for key in keys:
                    with contextlib.suppress(FileNotFoundError):
                        obstore.delete(store, key)

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """A missing file is a FileNotFoundError, a missing bucket is not."""
        missing = False
        with translated():
            try:
                yield
            except FileNotFoundError:
                self._require_bucket()
                missing = True
        if missing:
            raise FileNotFoundError(key)

    def _require_bucket(self) -> None:
        next(iter(obstore.list(self._store, chunk_size=1)), None)


def _opened(url: str, timeout_s: float, retries: int) -> obstore.store.ObjectStore:
    network = {
        "client_options": {
            "timeout": datetime.timedelta(seconds=timeout_s),
            "allow_http": True,
        },  # the endpoint's URL decides
        "retry_config": {"max_retries": retries, "retry_timeout": datetime.timedelta(seconds=timeout_s)},
    }
    try:
        return obstore.store.from_url(url, **({"mkdir": True} if url.startswith("file:") else network))
    except (BaseError, OSError, ValueError, TypeError) as error:
        raise Unavailable(
            "found a URL for adapter files that is not an object store's, expected s3://bucket/prefix, "
            "gs://..., az://... or file:///folder",
            code="store_unavailable",
        ) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors into Unavailable. A missing bucket is a FileNotFoundError there."""
    try:
        yield
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise Unavailable(
            f"the object store cannot be used now ({reason}). Fix: try again, or check its credentials",
            code="store_unavailable",
            retry_after_s=5,
        ) from error
