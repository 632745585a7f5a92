"""What every storage of adapter files promises: a folder, an object store in a folder, and S3."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lensmount_service.errors import Unavailable
from lensmount_service.store.blobs import Blobs, BlobStore
from lensmount_service.store.remote.objects import Objects
from lensmount_service.store.remote.remote_blobs import RemoteBlobs

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
Open = Callable[[str], Blobs]


@pytest.fixture(params=["folder", "file", "s3"])
def open_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """`open_blobs("a")` is server a's view of one storage."""
    if request.param == "folder":
        return lambda server: BlobStore(tmp_path / "shared")
    url = f"file://{tmp_path}/bucket" if request.param == "file" else str(request.getfixturevalue("s3"))
    return lambda server: RemoteBlobs(Objects(url), BlobStore(tmp_path / server), 10**6)


def test_bytes_put_by_one_server_are_read_listed_and_deleted_by_another(open_blobs: Open) -> None:
    first, second = open_blobs("a"), open_blobs("b")
    assert not first.holds(ABC)
    assert first.digests() == set()
    assert first.put(b"abc") == ABC
    assert second.holds(ABC)
    assert second.digests() == {ABC}
    assert second.get(ABC) == b"abc"
    assert b"".join(second.pieces(ABC)) == b"abc"
    second.delete(ABC)
    second.delete(ABC)
    assert not first.holds(ABC)
    assert first.digests() == set()


def test_a_put_of_the_same_bytes_by_many_at_once_succeeds_for_all(open_blobs: Open) -> None:
    servers = [open_blobs(name) for name in "abcd"]
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda n: servers[n % 4].put(b"abc"), range(16))} == {ABC}
    assert [server.get(ABC) for server in servers] == [b"abc"] * 4


def test_what_was_never_put_is_told_as_such(open_blobs: Open) -> None:
    with pytest.raises(Unavailable) as caught:
        open_blobs("a").get(ABC)
    assert caught.value.code == "adapter_corrupt"
    with pytest.raises(OSError, match="ba7816bf"):
        b"".join(open_blobs("a").pieces(ABC))


def test_put_again_brings_back_what_another_server_deleted(open_blobs: Open) -> None:
    first, second = open_blobs("a"), open_blobs("b")
    first.put(b"abc")
    first.put_again(b"abc")
    second.delete(ABC)
    first.put_again(b"abc")
    assert open_blobs("c").get(ABC) == b"abc"


def test_only_old_files_without_a_row_are_orphans(open_blobs: Open) -> None:
    blobs = open_blobs("a")
    needed = blobs.put(b"needed")
    blobs.put(b"abc")
    assert blobs.remove_orphans(lambda: contextlib.nullcontext({needed}), before=time.time() - 3600) == 0
    assert blobs.remove_orphans(lambda: contextlib.nullcontext({needed}), before=time.time() + 3600) >= 1
    assert blobs.digests() == {needed} == {f"sha256:{hashlib.sha256(b'needed').hexdigest()}"}
