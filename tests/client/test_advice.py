"""Every route that a message of the server advises has a call of the SDK and a command that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import AdapterNotFound, BodyTooLarge, Client, Job, JobFailed, Problem
from lensmount_client._advice import CALLS, COMMANDS, ROUTE, for_command_line, for_python
from lensmount_client._cli.terminal import described

ROOT = Path(__file__).parents[2]
UNKNOWN = "found no adapter named 'malria'. Did you mean 'malaria'? Fix: see GET /adapters for the names"


def text_of(node: ast.AST) -> str:
    """The constant parts of a string, with "{...}" for each value between them."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "{...}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def advised_routes() -> set[str]:
    """The routes in what the server's and the library's messages say after "Fix:"."""
    return {
        route
        for folder in ("service", "adapters")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for route in ROUTE.findall(text_of(node).partition("Fix: ")[2])
    }


def test_every_route_that_a_message_advises_has_a_call_and_a_command() -> None:
    assert advised_routes() == CALLS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", [text for text in COMMANDS.values() if text.startswith("`lensmount ")])
def test_the_command_exists(command: str, lensmount: Any) -> None:
    words = [word for word in command.strip("`").split()[1:] if word.islower()]
    code, out, _ = lensmount(*words, "--help")
    assert code == 0
    assert f"lensmount {' '.join(words)} " in out


@pytest.mark.parametrize("call", CALLS.values())
def test_the_call_exists(call: str) -> None:
    start, *names = re.sub(r"\(.*\)", "", call.strip("`")).split(".")
    with Client() as client:
        found: Any = {"client": client, "job": Job}[start]
        for name in names:
            found = getattr(found, name)
    assert callable(found)


def test_an_error_of_the_sdk_advises_its_call_and_keeps_the_words_of_the_server() -> None:
    error = AdapterNotFound(Problem(404, "adapter_not_found", "Not Found", UNKNOWN))
    assert str(error) == UNKNOWN.replace("GET /adapters", "`client.adapters.list()`")
    assert error.problem.detail == UNKNOWN


def test_the_command_line_advises_commands(
    server: Any, lensmount: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        server, "predict", lambda query, image: (404, {"code": "adapter_not_found", "detail": UNKNOWN}, {})
    )
    (tmp_path / "cell.png").write_bytes(b"cell")
    code, _, err = lensmount("predict", str(tmp_path / "cell.png"), "--adapter", "malria", "--url", server.url)
    assert code == 1
    assert "Fix: see `lensmount adapters list` for the names (adapter_not_found" in err


def test_a_limit_is_told_without_a_command() -> None:
    detail = "found a body of more than 9 bytes. Fix: send less; GET /limits shows every limit"
    told = described(BodyTooLarge(Problem(413, "body_too_large", "Too Large", detail)))
    assert told.startswith("found a body of more than 9 bytes. Fix: send less; /limits at the server's address shows")


def test_a_route_of_a_newer_server_and_other_text_stay_as_they_are() -> None:
    for text in ("Fix: see GET /jobs/{id}/plots", "the WIDGET /jobs", "see GET /jobs/7"):
        assert for_python(text) == for_command_line(text) == text


def test_the_reason_of_a_failed_job_is_told_in_the_words_of_its_reader(server: Any, lensmount: Any) -> None:
    message = "the worker went away twice. Fix: see its log, then POST /jobs/{id}/retry"
    server.training.outcome = {"state": "failed", "error": {"code": "worker_lost", "message": message}}
    server.training.stored["pets"] = [b"PK\5\6" + bytes(18)]  # an empty zip
    with Client(server.url) as client:
        job = client.jobs.submit("pets", "cats")
        with pytest.raises(JobFailed, match=r"see its log, then `job.retry\(\)`$"):
            job.wait()
    for command in (("show", job.id), ("watch", job.id)):
        _, out, err = lensmount("jobs", *command, "--url", server.url)
        assert "see its log, then `lensmount jobs retry ID` (worker_lost)" in out + err
