"""The server's part of `lensmount doctor` says how a server would start here, and changes nothing."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from lensmount_service.doctor import Finding, findings
from lensmount_service.jobs.worker_table import WorkerTable
from lensmount_service.store.database import Database


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a server that was never started, with settings that every machine has."""
    for name, value in (("PORT", "0"), ("EXECUTOR", "eager"), ("DEVICE", "cpu"), ("BACKBONE", "test_resnet")):
        monkeypatch.setenv(f"LENSMOUNT_{name}", value)
    monkeypatch.setenv("LENSMOUNT_WEIGHTS", "random:0")
    return tmp_path / "state"


def found(state: Path) -> dict[str, Finding]:
    return {finding.part: finding for finding in findings(state)}


def test_a_machine_without_a_server_has_notes_only_and_stays_as_it_is(state: Path) -> None:
    told = found(state)
    assert list(told) == ["device", "executor", "backbone", "state", "port", "worker"]
    assert {part for part, finding in told.items() if finding.level != "ok"} <= {"worker", "state"}
    assert told["device"].found.startswith("CPU")
    assert "made by the first start" in told["state"].found
    assert not state.exists()


def test_the_executor_is_the_one_that_was_asked_for(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_PRECISION", "float32")
    assert found(state)["executor"].found.startswith("eager float32 (asked for)")


@pytest.mark.parametrize(
    ("name", "value", "part", "fix"),
    [
        ("PORT", "70000", "settings", "correct the LENSMOUNT_ variable"),
        ("EXECUTOR", "cudagraphs", "executor", "--executor auto"),
        ("DEVICE", "nonsense", "device", "--device auto"),
    ],
)
def test_a_setting_that_cannot_work_is_a_problem_with_a_fix(
    state: Path, name: str, value: str, part: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LENSMOUNT_{name}", value)
    told = found(state)[part]
    assert told.level == "problem"
    assert fix in told.fix


def test_a_file_in_place_of_the_state_folder_is_a_problem_in_the_words_of_serve(state: Path) -> None:
    state.write_text("")
    told = found(state)["state"]
    assert told.level == "problem"
    assert told.found.startswith("found a file at")
    assert "--state" in told.fix


def test_a_taken_port_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("LENSMOUNT_PORT", str(taken.getsockname()[1]))
        told = found(state)["port"]
    assert told.level == "note"
    assert "--port" in told.fix


def test_a_worker_that_asks_for_jobs_is_counted(state: Path) -> None:
    state.mkdir(mode=0o700)
    with closing(Database(state / "registry.sqlite3")) as database:
        WorkerTable(database).note("one", "sha256:0")
    assert found(state)["worker"] == Finding("worker", "ok", "1 asks for jobs")


def test_a_damaged_database_is_a_problem(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "registry.sqlite3").write_bytes(1000 * b"not a database ")
    told = found(state)["worker"]
    assert told.level == "problem"
    assert told.fix


def test_weights_that_only_the_hub_has_are_a_note(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LENSMOUNT_WEIGHTS")
    assert found(state)["backbone"].level == "note"
    monkeypatch.setenv("LENSMOUNT_BACKBONE", "tf_efficientnet_lite0")
    assert found(state)["backbone"].level == "ok"
