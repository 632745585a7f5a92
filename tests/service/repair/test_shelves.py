from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensmount_service.repair.shelves import BlobShelf, FolderShelf, Shelf, open_shelves, state_of
from lensmount_service.store.blobs import BlobStore

DATA = os.urandom(700_000)  # three pieces
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture(params=["folder", "store"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    (tmp_path / DIGEST.removeprefix("sha256:")).write_bytes(DATA)
    if request.param == "folder":
        return FolderShelf(tmp_path)
    pytest.importorskip("obstore")
    from lensmount_service.store.remote.objects import Objects
    from lensmount_service.store.remote.remote_blobs import RemoteBlobs

    return BlobShelf(RemoteBlobs(Objects(f"file://{tmp_path}"), BlobStore(tmp_path / "cache"), 10**9))


def test_an_intact_file_is_read_and_told_piece_by_piece(shelf: Shelf) -> None:
    read: list[int] = []
    assert state_of(shelf, DIGEST, read.append) == "intact"
    assert sum(read) == len(DATA)
    assert shelf.digests() == {DIGEST}


@pytest.mark.parametrize("offset", [0, 1, 262_143, 262_144, 699_999])
def test_one_flipped_bit_is_damage(shelf: Shelf, tmp_path: Path, offset: int) -> None:
    changed = bytearray(DATA)
    changed[offset] ^= 1
    (tmp_path / DIGEST.removeprefix("sha256:")).write_bytes(changed)
    assert state_of(shelf, DIGEST) == "damaged"


def test_a_file_that_is_gone_is_missing(shelf: Shelf) -> None:
    assert state_of(shelf, f"sha256:{'0' * 64}") == "missing"


def test_reading_an_object_store_fills_no_cache(shelf: Shelf, tmp_path: Path) -> None:
    state_of(shelf, DIGEST)
    assert list((tmp_path / "cache").glob("*")) == []


class Failing(FolderShelf):
    """A shelf whose reads fail with these errors, one after the other."""

    def __init__(self, folder: Path, *numbers: int) -> None:
        super().__init__(folder)
        self.numbers = list(numbers)

    def pieces(self, digest: str) -> Iterator[bytes]:
        yield DATA[:1000]
        if self.numbers and (number := self.numbers.pop(0)):
            raise OSError(number, os.strerror(number))
        yield DATA[1000:]


def test_a_part_of_the_disk_that_cannot_be_read_is_damage_unless_the_second_try_works(tmp_path: Path) -> None:
    assert state_of(Failing(tmp_path, errno.EIO, errno.EIO), DIGEST) == "damaged"
    assert state_of(Failing(tmp_path, errno.EIO), DIGEST) == "intact"


def test_a_passing_fault_of_the_system_is_not_called_damage(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        state_of(Failing(tmp_path, errno.EMFILE), DIGEST)


def test_a_damaged_file_is_moved_and_not_removed(tmp_path: Path) -> None:
    folder = FolderShelf(tmp_path / "datasets", ".zip")
    folder.path(DIGEST).parent.mkdir()
    folder.path(DIGEST).write_bytes(b"damaged")
    (tmp_path / "datasets" / "tmpx.tmp").write_bytes(b"in progress")
    assert folder.digests() == {DIGEST}
    assert folder.set_apart(DIGEST, tmp_path / "apart" / "dataset")
    assert folder.digests() == set()
    assert (tmp_path / "apart" / "dataset" / folder.path(DIGEST).name).read_bytes() == b"damaged"


def test_the_shelves_of_a_state_folder(tmp_path: Path) -> None:
    for kind, shelf in open_shelves(tmp_path).items():
        assert shelf.digests() == set(), kind
    assert open_shelves(tmp_path, BlobStore(tmp_path / "blobs"))["adapter"].is_local
