"""Every kind of damage is a finding, a sound state has none, and a check changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path

import pytest
import typer
from tests.service.repair.test_scrubber import flip
from tests.service.repair.test_start import spoil_pages
from tests.service.states import Kept, settings_of
from typer.testing import CliRunner, Result

from lensmount_service import cli, logs, maintenance
from lensmount_service.errors import Unavailable
from lensmount_service.repair.check import Checked
from lensmount_service.store.database import SCHEMA_VERSION


def check(kept: Kept) -> Checked:
    return maintenance.check(settings_of(kept.folder))


def kinds(kept: Kept) -> list[str]:
    return [finding.kind for finding in check(kept).findings]


def bytes_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, without the index of SQLite's log, which readers lock."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".sqlite3-shm", ".sqlite3-wal") and path.name != ".lock"
    }


def test_a_sound_state_has_no_findings_and_stays_as_it_is(kept: Kept) -> None:
    before = bytes_of(kept.folder)
    checked = check(kept)
    assert (checked.findings, checked.files) == ((), 6)
    assert bytes_of(kept.folder) == before


def test_each_damaged_missing_and_left_over_file_is_a_finding(kept: Kept) -> None:
    first, second, *_ = sorted((kept.folder / "blobs").iterdir())
    flip(first)
    second.unlink()
    flip(next((kept.folder / "datasets").glob("*.zip")))
    next((kept.folder / "pools").iterdir()).unlink()
    orphan = kept.folder / "blobs" / ("0" * 64)
    orphan.write_bytes(b"left over")
    os.utime(orphan, (time.time() - 7200,) * 2)

    assert sorted(kinds(kept)) == ["damaged", "damaged", "missing", "missing", "orphan"]
    assert all(finding.fix for finding in check(kept).findings)


def test_a_damaged_database_is_a_finding_and_files_are_still_compared_with_their_names(kept: Kept) -> None:
    spoil_pages(kept.folder / "registry.sqlite3")
    flip(next((kept.folder / "blobs").iterdir()))
    found = check(kept).findings
    assert {finding.kind for finding in found} == {"database", "damaged"}
    assert all("store recover" in finding.fix for finding in found if finding.kind == "database")


def test_no_database_and_a_newer_schema_are_findings(kept: Kept) -> None:
    path = kept.folder / "registry.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    assert kinds(kept) == ["database"]
    path.unlink()
    assert kinds(kept)[0] == "database"
    assert not path.exists()


def test_a_database_without_tables_is_a_finding(kept: Kept) -> None:
    path = kept.folder / "registry.sqlite3"
    path.unlink()
    sqlite3.connect(path).execute("PRAGMA user_version = 0").connection.close()
    (finding,) = check(kept).findings
    assert (finding.kind, finding.found) == ("database", "found no tables, expected those of a server")
    assert "--adopt" in finding.fix


def test_a_manifest_that_cannot_be_read_is_a_finding(kept: Kept) -> None:
    with sqlite3.connect(kept.folder / "registry.sqlite3") as connection:
        connection.execute("UPDATE versions SET manifest = 'garbage' WHERE name = 'cells' AND version = 1")
    connection.close()
    (finding,) = check(kept).findings
    assert (finding.kind, finding.what) == ("row", "cells@1")


def test_a_folder_that_is_not_there_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="give it with --state"):
        maintenance.check(settings_of(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.fixture
def run(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(logs, "configure", lambda settings: None)  # it configures the whole process
    app = typer.Typer()
    app.command("check")(cli.check)
    app.command("recover")(cli.recover)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--state", str(kept.folder)])

    return invoke


def test_the_command_exits_with_1_if_there_are_findings_and_the_advised_command_ends_them(
    kept: Kept, run: object
) -> None:
    assert callable(run)
    well = run("check")
    assert (well.exit_code, well.stdout.startswith("All is well: 6 files, ")) == (0, True), well.output
    spoil_pages(kept.folder / "registry.sqlite3")
    found = run("check", "--json")
    assert found.exit_code == 1
    document = json.loads(found.stdout)
    assert (document["ok"], document["findings"][0]["kind"]) == (False, "database")
    assert "`lensmount store recover`" in run("check").stdout

    mended = run("recover")
    assert mended.exit_code == 0, mended.output
    assert "The database was rebuilt." in mended.stdout
    assert run("check").exit_code == 0
