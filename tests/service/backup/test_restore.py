"""A restored state is the one that was backed up: a server shows the same to everybody, with the same tokens."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.service.states import Kept, settings_of, shown
from tests.service.store.test_migrate import create_old

from lensmount_adapters import Backbone
from lensmount_service import maintenance
from lensmount_service.backup.folder import BackupFolder
from lensmount_service.backup.manifest import name_of
from lensmount_service.errors import Unavailable
from lensmount_service.repair.start import require_usable
from lensmount_service.settings import Settings
from lensmount_service.state_folder import RESTORING
from lensmount_service.store.database import SCHEMA_VERSION, Database


@pytest.fixture(scope="module")
def backups(template: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one backup of the template."""
    out = tmp_path_factory.mktemp("backups") / "out"
    maintenance.make_backup(settings_of(template.folder), out)
    return out


@pytest.fixture
def own(backups: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(backups, tmp_path / "own"))


def restore(backups: Path, state: Path, at: str | None = None) -> Any:
    return maintenance.restore(settings_of(state), backups, at)


def start(state: Path) -> None:
    require_usable(state, settings_of(state).database_url())


def files_of(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name != ".lock"]


def test_a_server_shows_the_same_as_before(template: Kept, backups: Path, tmp_path: Path, backbone: Backbone) -> None:
    for state in (tmp_path / "new" / "state", tmp_path / "empty"):
        if state.name == "empty":
            state.mkdir()
            (state / "lost+found").mkdir()  # as at the top of a disk
        restore(backups, state)
    copied = Kept(Path(shutil.copytree(template.folder, tmp_path / "copied")), template.token, template.other)
    assert shown(Kept(tmp_path / "new" / "state", template.token, template.other), backbone) == shown(copied, backbone)
    assert (tmp_path / "new" / "state").stat().st_mode & 0o777 == 0o700


def test_a_folder_with_something_in_it_is_refused_and_stays(own: Path, kept: Kept, tmp_path: Path) -> None:
    before = files_of(kept.folder)
    with pytest.raises(Unavailable, match=r"expected an empty folder. Fix: give a new folder with --state"):
        restore(own, kept.folder)
    assert files_of(kept.folder) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="found a file at"):
        restore(own, tmp_path / "file")
    restore(own, tmp_path / "new")


def test_any_damaged_file_of_the_backup_is_found_before_anything_is_restored(own: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    files = [entry.digest for entry in BackupFolder(own).latest().files.values()]  # type: ignore[union-attr]  # there
    for digest in files:
        path = BackupFolder(own).file(digest)
        data = path.read_bytes()
        for change in (data[:-1], bytes([data[0] ^ 1]) + data[1:], None):
            path.unlink()
            if change is not None:
                path.write_bytes(change)
            with pytest.raises(Unavailable, match="nothing was restored"):
                restore(own, state)
            assert files_of(state) == []
            path.write_bytes(data)
    restore(own, state)
    start(state)


def test_a_damaged_file_is_replaced_by_the_advised_command(own: Path, kept: Kept, tmp_path: Path) -> None:
    newest = BackupFolder(own).latest()
    assert newest is not None
    digest = next(entry.digest for name, entry in newest.files.items() if name.startswith("blobs/"))
    BackupFolder(own).file(digest).write_bytes(b"")
    with pytest.raises(Unavailable, match="`lensmount backup --verify`"):
        restore(own, tmp_path / "new")
    maintenance.make_backup(settings_of(kept.folder), own, verify=True)
    restore(own, tmp_path / "new")


def test_an_older_backup_is_brought_to_this_schema(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    database = Database(tmp_path / "old" / "registry.sqlite3")
    create_old(2, database)
    database.close()
    maintenance.make_backup(settings_of(tmp_path / "old"), tmp_path / "out")
    restored = restore(tmp_path / "out", tmp_path / "new")
    assert restored.schema_before == 2
    with sqlite3.connect(tmp_path / "new" / "registry.sqlite3") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT version FROM aliases WHERE alias = 'prod'").fetchone() == (1,)
    connection.close()


def test_a_newer_backup_is_refused_with_the_version_that_made_it(own: Path, tmp_path: Path) -> None:
    path = BackupFolder(own).find()
    newer = json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1, "lensmount": "9.1"}
    import datetime

    text = json.dumps(newer)
    (path.parent / name_of(text, datetime.datetime.now(datetime.UTC))).write_text(text)
    with pytest.raises(
        Unavailable, match=f"found a backup of schema {SCHEMA_VERSION + 1}, made by Lensmount 9.1 .*expected at most"
    ):
        restore(own, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    restore(own, tmp_path / "new", at=path.name[:22])


def test_an_unfinished_restore_is_refused_by_a_start_and_the_advised_command_finishes_it(
    own: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / RESTORING / "blobs").mkdir(parents=True)
    (state / "blobs").mkdir()
    (state / "blobs" / "half").write_bytes(b"half")
    with pytest.raises(Unavailable, match=f"`lensmount restore FROM --state {state}` again"):
        start(state)
    restore(own, state)
    start(state)
    assert not (state / "blobs" / "half").exists()


def test_adapters_go_to_an_object_store_if_there_is_one(template: Kept, own: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    state, bucket = tmp_path / "state", tmp_path / "bucket"
    settings = Settings(state=state, zoo=False, blobs=f"file://{bucket}")  # type: ignore[arg-type]  # pydantic converts
    maintenance.restore(settings, own)
    assert sorted(path.name for path in bucket.iterdir()) == sorted(
        path.name for path in (template.folder / "blobs").iterdir()
    )
    assert maintenance.check(settings).findings == ()
