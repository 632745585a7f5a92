"""The commands, as a person runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from tests.service.states import Kept
from typer.testing import CliRunner, Result

from lensmount_service import cli, logs

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(logs, "configure", lambda settings: None)  # it configures the whole process
    app = typer.Typer()
    app.command("backup")(cli.backup)
    app.command("restore")(cli.restore)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_backup_list_restore_as_a_person_runs_them(run: Run, kept: Kept, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = run("backup", out, "--state", kept.folder)
    assert made.exit_code == 0, made.output
    assert "Backed up the database, 4 adapters, 1 datasets, 1 images of pools, 1 files of jobs" in made.stdout
    assert f"To restore it: lensmount restore {out} --state NEW_FOLDER" in made.stdout

    listed = run("restore", out, "--list", "--json")
    (backup,) = json.loads(listed.stdout)["backups"]
    assert backup["time"] in run("restore", out, "--list").stdout
    restored = run("restore", out, "--state", tmp_path / "new", "--at", backup["time"])
    assert restored.exit_code == 0, restored.output
    assert f"Start a server with it: lensmount serve --state {tmp_path / 'new'}" in restored.stdout


def test_json_has_the_counts(run: Run, kept: Kept, tmp_path: Path) -> None:
    made = json.loads(run("backup", tmp_path / "out", "--state", kept.folder, "--json").stdout)
    restored = json.loads(run("restore", tmp_path / "out", "--state", tmp_path / "new", "--json").stdout)
    assert made["absent"] == []
    assert {key: made[key] for key in restored} == restored
    assert made["new_files"] == made["files"]


def test_an_incomplete_backup_is_exit_status_1_and_names_what_is_missing(run: Run, kept: Kept, tmp_path: Path) -> None:
    for path in (kept.folder / "blobs").iterdir():
        path.unlink()
    made = run("backup", tmp_path / "out", "--state", kept.folder)
    assert made.exit_code == 1
    assert "4 files are missing or damaged, and are not in this backup:" in made.stdout
    assert "adapter lab/cells@1" in made.stdout


def test_a_refusal_is_one_line_and_exit_status_78(run: Run, kept: Kept, tmp_path: Path) -> None:
    for arguments in (
        ("backup", tmp_path / "out", "--state", tmp_path / "none"),
        ("restore", tmp_path / "none", "--state", tmp_path / "new"),
        ("restore", tmp_path / "none", "--list"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 78
        assert refused.stderr.startswith(f"lensmount {arguments[0]}: found ")
        assert refused.stderr.count("\n") == 1
