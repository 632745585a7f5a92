from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters import parse_adapter
from lensmount_service.errors import StorageFull
from lensmount_service.store.database import Database
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry
from lensmount_service.store.reserve import RESERVE_BYTES, Reserve

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter


def test_a_change_that_needs_no_space_leaves_the_reserve(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")
    reserve.fill()
    assert reserve.spend(lambda: 7) == 7
    assert (tmp_path / "reserve").stat().st_size == RESERVE_BYTES
    assert (tmp_path / "reserve").stat().st_mode & 0o777 == 0o600


def test_on_a_full_disk_the_reserve_is_given_up_once(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    reserve.fill()

    def change() -> str:
        if path.exists():
            raise StorageFull("full")
        return "done"

    assert reserve.spend(change) == "done"
    reserve.fill()
    assert path.exists()

    def never() -> str:
        raise StorageFull("full")

    for _ in range(2):
        with pytest.raises(StorageFull):
            reserve.spend(never)
    with pytest.raises(StorageFull):
        Reserve(None).spend(never)


def test_without_a_folder_nothing_is_written() -> None:
    Reserve(Path("/nowhere/at/all")).fill()
    Reserve(None).fill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_disk_without_a_free_byte_a_purge_works_and_then_uploads_do_again(
    small_disk: Path, make_adapter: MakeAdapter
) -> None:
    manifest = parse_adapter(make_adapter(1)).manifest
    database = Database(small_disk / "registry.sqlite3")
    registry = Registry(database)
    for number in range(3):
        registry.publish("cells", "sha256:" + hashlib.sha256(bytes([number])).hexdigest(), 10, manifest)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(os.urandom(4096)) == 4096:
                pass
        except OSError:
            pass

    def upload_many(most: int) -> None:
        for number in range(most):
            upload(number)

    def upload(number: int) -> None:
        registry.publish("more", "sha256:" + hashlib.sha256(bytes([number])).hexdigest(), 10, manifest)

    with pytest.raises(StorageFull):
        upload_many(200)
    assert registry.delete("cells", purge=True) != []
    ballast.unlink()
    registry.refill()
    upload(250)
    assert registry.resolve(Reference("more")).digest.endswith(hashlib.sha256(bytes([250])).hexdigest())
    assert (small_disk / "registry.sqlite3.reserve").stat().st_size == RESERVE_BYTES
    database.close()
