"""`lensmount doctor`: one line per part, a fix below each lack, and an exit status for scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lensmount_client._doctor import command
from lensmount_client._doctor.finding import Finding


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the server's package finds; the test of that package tries the real one."""
    found = [Finding("device", "ok", "CPU")]
    monkeypatch.setitem(sys.modules, "lensmount_service.doctor", SimpleNamespace(findings=lambda state: found))
    return found


@pytest.mark.usefixtures("service")
def test_a_server_that_answers_is_named_with_its_state(lensmount: Any, server: Any) -> None:
    code, out, err = lensmount("doctor", "--url", server.url)
    assert (code, err) == (0, "")
    assert f"{server.url} answers: ok" in out
    assert "ok       device     CPU" in out


def test_a_lack_has_its_fix_below_it_and_a_problem_ends_with_1(lensmount: Any, service: list[Finding]) -> None:
    service += [Finding("state", "problem", "found a file", "move it"), Finding("port", "note", "taken", "--port")]
    code, out, _ = lensmount("doctor", "--url", "http://127.0.0.1:9")
    assert code == 1
    lines = out.splitlines()
    assert lines[lines.index("PROBLEM  state      found a file") + 1] == "                    Fix: move it"
    assert "no server answers at http://127.0.0.1:9" in out
    assert lines[-1].startswith("Found 1 problem and ")


@pytest.mark.usefixtures("service")
def test_json_has_every_finding(lensmount: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", "ftp://nowhere")
    code, out, _ = lensmount("doctor", "--json")
    document = json.loads(out)
    found = {finding["part"]: finding for finding in document["findings"]}
    assert (code, document["ok"]) == (1, False)
    assert found["address"]["level"] == "problem"
    assert "LENSMOUNT_URL" in found["address"]["fix"]
    assert all(bool(finding["fix"]) == (finding["level"] != "ok") for finding in document["findings"])


def test_a_system_that_no_server_runs_on_is_a_note(
    lensmount: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'fcntl'", name="fcntl")

    monkeypatch.setattr(command, "import_module", without)
    code, out, _ = lensmount("doctor", "--url", server.url, "--state", str(tmp_path))
    assert code == 0
    assert "fcntl is missing" in out
    assert "Linux or macOS" in out
