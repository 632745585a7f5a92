"""Trunk outputs on disk: within a stated size, exact, and never a damaged or a foreign one."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lensmount_service.archive.disk import FOLDERS, LEFT, DiskOutputs
from lensmount_service.archive.entry import KeptOutput

MIB = 2**20


def key(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()


def output(number: int = 0, numbers: int = 1000) -> KeptOutput:
    draw = torch.Generator().manual_seed(number)
    return KeptOutput(torch.randn(1, numbers // 10, 10, generator=draw), (number, 7))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_put_comes_back_bit_for_bit_also_after_a_restart(tmp_path: Path) -> None:
    DiskOutputs(tmp_path, 64 * MIB).put(key(3), output(3))
    found = DiskOutputs(tmp_path, 64 * MIB).get(key(3))
    assert found is not None
    assert torch.equal(found.x, output(3).x)
    assert found.size == (3, 7)
    assert DiskOutputs(tmp_path, 64 * MIB).get(key(4)) is None


def test_files_never_have_more_bytes_than_stated_and_the_ones_used_last_stay(tmp_path: Path) -> None:
    most = FOLDERS * 5 * 4500  # some five files in each folder
    disk = DiskOutputs(tmp_path, most)
    for number in range(FOLDERS * 12):
        disk.put(key(number), output(number))
        os.utime(disk._path(key(number)), (1000.0 + number, 1000.0 + number))
        if number % 50 == 0:
            assert size_of(tmp_path) <= most
            disk.get(key(0))  # used all the time
    assert size_of(tmp_path) <= most
    assert disk.nbytes == size_of(tmp_path)
    kept = [number for number in range(FOLDERS * 12) if disk.get(key(number)) is not None]
    assert 0 in kept
    assert len(kept) > FOLDERS * 2
    by_folder: dict[Path, list[int]] = {}
    for number in range(1, FOLDERS * 12):
        by_folder.setdefault(disk._path(key(number)).parent, []).append(number)
    for numbers in by_folder.values():
        assert [n for n in numbers if n in kept] == numbers[-sum(n in kept for n in numbers) :]
    assert LEFT < 1


def test_a_smaller_size_holds_after_a_restart_for_every_folder_that_is_written_to(tmp_path: Path) -> None:
    large = DiskOutputs(tmp_path, 64 * MIB)
    for number in range(FOLDERS * 4):
        large.put(key(number), output(number))
    small = DiskOutputs(tmp_path, FOLDERS * 2 * 4500)
    for number in range(FOLDERS * 4, FOLDERS * 12):
        small.put(key(number), output(number))
    assert size_of(tmp_path) <= FOLDERS * 2 * 4500


def test_what_is_larger_than_a_folder_may_be_is_not_kept(tmp_path: Path) -> None:
    disk = DiskOutputs(tmp_path, FOLDERS * 3000)
    disk.put(key(0), output(0))
    assert disk.get(key(0)) is None
    assert size_of(tmp_path) == 0


def test_nothing_is_written_with_a_size_of_zero(tmp_path: Path) -> None:
    DiskOutputs(tmp_path / "trunk", 0).put(key(0), output(0))
    assert not (tmp_path / "trunk").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: random.Random(0).randbytes(len(data)),
    ],
    ids=["cut", "empty", "a bit of the header", "the last bit", "noise"],
)
def test_a_damaged_file_is_not_an_answer_and_is_removed(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    disk = DiskOutputs(tmp_path, 64 * MIB)
    disk.put(key(1), output(1))
    path = disk._path(key(1))
    path.write_bytes(damage(path.read_bytes()))
    assert disk.get(key(1)) is None
    assert not path.exists()


def test_a_file_under_another_key_is_not_an_answer(tmp_path: Path) -> None:
    disk = DiskOutputs(tmp_path, 64 * MIB)
    disk.put(key(1), output(1))
    other = disk._path(key(2))
    other.parent.mkdir(exist_ok=True)
    disk._path(key(1)).rename(other)
    assert disk.get(key(2)) is None


def test_a_file_that_cannot_be_read_is_not_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "archive.read":
            raise OSError(errno.EIO, "Input/output error")

    disk = DiskOutputs(tmp_path, 64 * MIB)
    disk.put(key(1), output(1))
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr("lensmount_service.archive.disk.fault", broken)
        assert disk.get(key(1)) is None
    assert disk.get(key(1)) is not None


@pytest.mark.parametrize("moment", ["archive.write", "archive.rename"])
def test_a_full_disk_keeps_nothing_and_raises_nothing(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str) -> None:
        if name == moment:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lensmount_service.archive.disk.fault", full)
    disk = DiskOutputs(tmp_path, 64 * MIB)
    disk.put(key(1), output(1))
    assert disk.get(key(1)) is None
    assert size_of(tmp_path) == 0
