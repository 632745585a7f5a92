"""Files in a folder and an object store: each is checked when it comes in, and the folder is only a cache."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_service.store.remote.mirror import Mirror
from lensmount_service.store.remote.objects import Objects

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
Open = Callable[[str], Mirror]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def open_mirror(tmp_path: Path, bucket: Path) -> Open:
    """`open_mirror("a")` is server a's."""
    return lambda server: Mirror(tmp_path / server / "pools", "", Objects(f"file://{bucket}"))


def test_a_file_of_one_server_is_read_by_another_and_then_from_its_folder(open_mirror: Open, bucket: Path) -> None:
    first, second = open_mirror("a"), open_mirror("b")
    assert second.read(ABC) is None
    first.create(ABC, b"abc")
    assert first.has(ABC, 3)
    assert not first.has(ABC, 4)
    assert second.read(ABC) == b"abc"
    assert second.digests() == {ABC}
    assert b"".join(second.pieces(ABC)) == b"abc"
    (bucket / "pools" / ABC.removeprefix("sha256:")).unlink()
    assert second.path(ABC).read_bytes() == b"abc"
    assert not first.path(ABC).exists()


def test_damage_is_never_read_and_a_good_copy_replaces_it(open_mirror: Open, bucket: Path) -> None:
    mirror = open_mirror("a")
    mirror.create(ABC, b"abc")
    assert mirror.read(ABC) == b"abc"
    mirror.local(ABC).write_bytes(b"abd")
    assert mirror.read(ABC) == b"abc"
    (bucket / "pools" / ABC.removeprefix("sha256:")).write_bytes(b"abd")
    assert mirror.read(ABC) == b"abc"
    mirror.local(ABC).write_bytes(b"abd")
    assert mirror.read(ABC) is None
    with pytest.raises(ValueError, match="not a digest"):
        mirror.local("sha256:../../etc")


def test_a_file_is_given_to_the_store_once_and_again_if_it_is_gone(open_mirror: Open, tmp_path: Path) -> None:
    mirror = open_mirror("a")
    (tmp_path / "new").write_bytes(b"abc")
    mirror.share(ABC, tmp_path / "new")
    mirror.local(ABC).parent.mkdir(parents=True)
    mirror.local(ABC).write_bytes(b"abc")
    open_mirror("b").remove([ABC])
    assert mirror.digests() == set()
    mirror.share_again(ABC)
    assert mirror.digests() == {ABC}
    mirror.remove([ABC])
    mirror.share_again(ABC)  # this version was purged as well
    assert mirror.digests() == set()
    assert not mirror.local(ABC).exists()


def test_only_old_files_without_a_row_are_orphans(open_mirror: Open) -> None:
    mirror = open_mirror("a")
    mirror.create(ABC, b"abc")
    soon = time.time() + 3600
    assert mirror.remove_orphans(lambda: contextlib.nullcontext({ABC}), soon) == 0
    assert mirror.remove_orphans(lambda: contextlib.nullcontext(set()), time.time() - 3600) == 0
    assert mirror.remove_orphans(lambda: contextlib.nullcontext(set()), soon) == 1
    assert mirror.digests() == set()


def test_without_an_object_store_the_folder_is_all_there_is(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "pools")
    assert mirror.digests() == set()
    mirror.local(ABC).parent.mkdir()
    mirror.local(ABC).write_bytes(b"abc")
    mirror.share_again(ABC)
    assert (mirror.read(ABC), mirror.digests(), b"".join(mirror.pieces(ABC))) == (b"abc", {ABC}, b"abc")
    assert (mirror.fill({ABC}), mirror.remove_orphans(lambda: contextlib.nullcontext(set()), time.time() + 9)) == (0, 0)
    mirror.remove([ABC])
    assert mirror.read(ABC) is None
