"""A backup that is taken while a server works is one moment of it, and has every file of that moment."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.service.states import Kept, settings_of
from tests.service.store.test_migrate import create_old

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_service import maintenance
from lensmount_service.backup.folder import BackupFolder
from lensmount_service.backup.make import Made
from lensmount_service.errors import StoreDamaged, Unavailable
from lensmount_service.settings import Settings
from lensmount_service.store.blobs import BlobStore
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.service.conftest import MakeAdapter


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def make(kept: Kept, out: Path, **options: Any) -> Made:
    return maintenance.make_backup(settings_of(kept.folder), out, **options)


def test_it_has_every_file_with_its_digest_and_leaves_the_state_as_it_is(kept: Kept, out: Path) -> None:
    made = make(kept, out)
    assert made.manifest.absent == []
    parts = sorted({name.partition("/")[0] for name in made.manifest.files})
    assert parts == ["audit", "blobs", "datasets", "jobs", "pools", "registry.sqlite3"]
    for name, entry in made.manifest.files.items():
        data = BackupFolder(out).file(entry.digest).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry.digest
        assert len(data) == entry.size_bytes
        if name != "registry.sqlite3":
            assert (kept.folder / name).read_bytes() == data


def test_a_second_backup_copies_only_what_is_new(kept: Kept, out: Path, make_adapter: MakeAdapter) -> None:
    first, again = make(kept, out), make(kept, out)
    assert first.new_files == len(first.manifest.files)
    assert again.new_files == 1  # the snapshot of the database
    BlobStore(kept.folder / "blobs").put(b"nobody refers to this")
    database = Database(kept.folder / "registry.sqlite3")
    data = make_adapter(9)
    BlobStore(kept.folder / "blobs").put(data)
    file = parse_adapter(data)
    Registry(database).publish("new", file.digest, file.size_bytes, file.manifest)
    database.close()
    third = make(kept, out, keep=1)
    assert (third.new_files, third.pruned) == (2, 2)
    assert len(third.manifest.files) == len(first.manifest.files) + 1


def test_a_file_that_is_damaged_or_gone_is_named_unless_the_folder_has_it(kept: Kept, out: Path) -> None:
    first, second, *_ = sorted((kept.folder / "blobs").iterdir())
    data = first.read_bytes()
    first.write_bytes(data[:-1])
    second.unlink()
    made = make(kept, out)
    assert sorted(each.digest.removeprefix("sha256:") for each in made.manifest.absent) == [first.name, second.name]
    assert not {f"blobs/{first.name}", f"blobs/{second.name}"} & made.manifest.files.keys()

    first.write_bytes(data)
    assert len(make(kept, out).manifest.absent) == 1
    first.unlink()
    assert len(make(kept, out).manifest.absent) == 1


def test_verify_reads_what_the_folder_has_and_copies_damaged_files_again(kept: Kept, out: Path) -> None:
    made = make(kept, out)
    spoiled = BackupFolder(out).file(next(e.digest for n, e in made.manifest.files.items() if n.startswith("blobs/")))
    spoiled.write_bytes(b"x" * spoiled.stat().st_size)
    assert make(kept, out).new_files == 1
    assert make(kept, out, verify=True).new_files == 2
    assert hashlib.sha256(spoiled.read_bytes()).hexdigest() == spoiled.name


def test_a_damaged_database_is_refused_and_the_older_backup_stays(kept: Kept, out: Path) -> None:
    from tests.service.repair.test_start import spoil_pages

    make(kept, out)
    spoil_pages(kept.folder / "registry.sqlite3")
    with pytest.raises(StoreDamaged, match="lensmount store recover"):
        make(kept, out)
    assert len(BackupFolder(out).manifests()) == 1


def test_a_folder_inside_the_state_is_refused(kept: Kept) -> None:
    with pytest.raises(Unavailable, match="Fix: name a folder outside of it"):
        make(kept, kept.folder / "backups")
    assert not (kept.folder / "backups").exists()


def test_a_state_folder_that_is_not_there_is_refused_and_not_created(tmp_path: Path, out: Path) -> None:
    with pytest.raises(Unavailable, match="--state"):
        make(Kept(tmp_path / "none", "", ""), out)
    assert not (tmp_path / "none").exists()


def test_a_state_of_an_older_schema_is_backed_up_without_a_migration(tmp_path: Path, out: Path) -> None:
    (tmp_path / "state").mkdir()
    database = Database(tmp_path / "state" / "registry.sqlite3")
    create_old(2, database)
    database.close()
    made = make(Kept(tmp_path / "state", "", ""), out)
    assert made.manifest.schema_version == 2
    assert [each.title for each in made.manifest.absent] == [
        f"adapter cells@1 (sha256:{'a' * 12}...)",
        f"dataset leaves@1 (sha256:{'c' * 12}...)",
    ]


def test_the_last_line_of_the_audit_log_is_left_out_while_it_is_being_written(kept: Kept, out: Path) -> None:
    (path,) = (kept.folder / "audit").iterdir()
    complete = path.read_bytes()
    path.write_bytes(complete + b'{"time": 1')
    made = make(kept, out)
    entry = made.manifest.files[f"audit/{path.name}"]
    assert BackupFolder(out).file(entry.digest).read_bytes() == complete


def test_every_backup_next_to_writers_is_one_moment(kept: Kept, out: Path, make_adapter: MakeAdapter) -> None:
    """A thread publishes, moves an alias in the same order, and purges, as fast as it can."""
    data = [make_adapter(seed) for seed in (11, 12, 13)]
    files = [parse_adapter(each) for each in data]
    stop = threading.Event()

    def write() -> None:
        database = Database(kept.folder / "registry.sqlite3")
        registry, blobs = Registry(database), BlobStore(kept.folder / "blobs")
        number = 0
        while not stop.is_set():
            file = files[number % 3]
            blobs.put(data[number % 3])
            version, _ = registry.publish("busy", file.digest, file.size_bytes, file.manifest)
            registry.set_alias("busy", "prod", version.version)
            for digest in registry.delete("busy", version.version, purge=True):
                blobs.delete(digest)
            number += 1
        database.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        made = [make(kept, out) for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    for each in made:
        copy = BackupFolder(out).file(each.manifest.files["registry.sqlite3"].digest)
        connection = sqlite3.connect(f"file:{copy}?immutable=1", uri=True)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        needed = {digest for (digest,) in connection.execute("SELECT digest FROM versions WHERE NOT deleted")}
        connection.close()
        here = {entry.digest for entry in each.manifest.files.values()} | {gone.digest for gone in each.manifest.absent}
        assert needed <= here


def test_of_postgresql_the_files_are_backed_up(
    kept: Kept, out: Path, postgresql: Callable[[], str], make_adapter: MakeAdapter
) -> None:
    url = postgresql()
    database = Database(url)
    data = make_adapter(1)
    file = parse_adapter(data)
    BlobStore(kept.folder / "blobs").put(data)
    Registry(database).publish("cells", file.digest, file.size_bytes, file.manifest)
    database.close()
    settings = Settings(state=kept.folder, zoo=False, database=url)  # type: ignore[arg-type]  # pydantic converts it
    made = maintenance.make_backup(settings, out)
    assert made.manifest.database == "postgresql"
    names = [name for name in made.manifest.files if not name.startswith("audit/")]
    assert names == [f"blobs/{file.digest.removeprefix('sha256:')}"]


def test_adapters_of_an_object_store_are_in_the_backup(kept: Kept, out: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    bucket = tmp_path / "bucket"
    (kept.folder / "blobs").rename(bucket)
    settings = Settings(state=kept.folder, zoo=False, blobs=f"file://{bucket}")  # type: ignore[arg-type]  # as above
    made = maintenance.make_backup(settings, out)
    assert made.manifest.absent == []
    assert {name.partition("/")[2] for name in made.manifest.files if name.startswith("blobs/")} == {
        path.name for path in bucket.iterdir()
    }
