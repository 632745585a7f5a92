from __future__ import annotations

import datetime
import errno
import hashlib
import os
from pathlib import Path

import pytest

from lensmount_adapters import faults
from lensmount_service.backup.folder import BackupFolder, FileDamaged, time_of
from lensmount_service.backup.manifest import BackupManifest, Entry, name_of
from lensmount_service.errors import ServiceError, StorageFull, Unavailable


def commit(folder: BackupFolder, day: int, *data: bytes) -> str:
    """A backup of these bytes at a day of a month; returns its time."""
    with folder.writing():
        files = {f"pools/{number:064x}": folder.add([each]) for number, each in enumerate(data)}
        manifest = BackupManifest(
            format=1, lensmount="1", created_at="", schema_version=4, database="sqlite", files=files, absent=[]
        )
        text = manifest.model_dump_json()
        path = folder.commit(name_of(text, datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)), text)
    return time_of(path)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_file_is_kept_once_under_its_digest_for_its_owner_alone(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path / "out")
    with folder.writing():
        entry = folder.add([b"ab", b"", b"c"])
        assert folder.add([b"abc"], entry.digest) == entry == Entry(digest=digest_of(b"abc"), size_bytes=3)
    assert [path.name for path in (tmp_path / "out" / "files").iterdir()] == [hashlib.sha256(b"abc").hexdigest()]
    assert folder.file(entry.digest).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert folder.holds(entry.digest, 3, read=True)
    assert not folder.holds(entry.digest, 4)
    folder.file(entry.digest).write_bytes(b"abd")
    assert folder.holds(entry.digest, 3)
    assert not folder.holds(entry.digest, 3, read=True)


def test_bytes_that_do_not_match_are_not_kept(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path)
    with folder.writing():
        with pytest.raises(FileDamaged):
            folder.add([b"abc"], digest_of(b"abd"))
        assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.parametrize("point", ["backup.create", "backup.write", "backup.fsync", "backup.rename"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, Unavailable)])
def test_a_disk_that_fails_leaves_nothing_behind(
    tmp_path: Path, point: str, number: int, kind: type[ServiceError]
) -> None:
    def fail(passed: str) -> None:
        if passed == point:
            raise OSError(number, os.strerror(number))

    folder = BackupFolder(tmp_path)
    with folder.writing():
        with faults.installed(fail), pytest.raises(kind, match="the backup"):
            folder.add([b"abc"])
        assert list((tmp_path / "files").iterdir()) == []


def test_other_folders_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with (
        pytest.raises(Unavailable, match=r"found other files in .*Fix: name another folder"),
        BackupFolder(tmp_path).writing(),
    ):
        pass
    folder = BackupFolder(tmp_path / "out")
    with folder.writing(), pytest.raises(Unavailable, match="wait until it has finished"), folder.writing():
        pass
    with folder.writing():
        pass


def test_what_a_killed_backup_left_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path)
    with folder.writing():
        (tmp_path / "files" / ".x.tmp").write_bytes(b"half")
        (tmp_path / ".snapshot-x").mkdir()
    with folder.writing():
        assert not (tmp_path / "files" / ".x.tmp").exists()
        assert not (tmp_path / ".snapshot-x").exists()


def test_a_backup_is_found_by_the_beginning_of_its_time(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path)
    first, second = commit(folder, 1, b"a"), commit(folder, 2, b"b")
    assert time_of(folder.find()) == second
    for at in (first, "20260101", "2026-01-01"):
        assert time_of(folder.find(at)) == first
    with pytest.raises(Unavailable, match=f"expected one of: {first}, {second}"):
        folder.find("2025")
    with pytest.raises(Unavailable, match="found no backup in"):
        BackupFolder(tmp_path / "none").find()


def test_pruning_keeps_the_newest_backups_and_every_file_that_they_need(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path)
    for day, data in ((1, (b"a", b"b")), (2, (b"b", b"c")), (3, (b"c", b"d"))):
        commit(folder, day, *data)
    assert folder.prune(2) == 1
    assert [folder.holds(digest_of(data)) for data in (b"a", b"b", b"c", b"d")] == [False, True, True, True]
    assert folder.prune(2) == 0
    assert folder.prune(1) == 1
    assert [folder.holds(digest_of(data)) for data in (b"b", b"c", b"d")] == [False, True, True]


def test_nothing_is_pruned_if_a_list_of_files_cannot_be_read(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path)
    commit(folder, 1, b"a")
    commit(folder, 2, b"b")
    folder.find().write_bytes(b"{}")
    with pytest.raises(Unavailable):
        folder.prune(1)
    assert len(folder.manifests()) == 2
    assert folder.holds(digest_of(b"a"))
    assert folder.latest() is not None


def test_a_copy_is_compared_with_the_digest(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path / "out")
    with folder.writing():
        entry = folder.add([b"abc"])
    folder.copy(entry.digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"abc"
    folder.file(entry.digest).write_bytes(b"abd")
    with pytest.raises(FileDamaged):
        folder.copy(entry.digest, tmp_path / "copy")
