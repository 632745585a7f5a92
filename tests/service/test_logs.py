"""Each event is one line on stderr: text for people, or JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog
from python_multipart.multipart import MultipartParser

from lensmount_service import logs
from lensmount_service.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    logs.configure(Settings(log_level="error"))  # as for all other tests


def test_json_logs_have_one_document_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="info", log_format="json"))
    log = structlog.get_logger("lensmount_service.test")
    log.info("serving", url="http://127.0.0.1:8000")
    log.error("job lost", job="1")

    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["url"]) == ("serving", "info", "http://127.0.0.1:8000")
    assert (second["event"], second["level"], second["job"]) == ("job lost", "error", "1")
    assert first["timestamp"].endswith("Z")


def test_text_logs_name_the_event_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="info", log_format="text"))
    structlog.get_logger("lensmount_service.test").info("serving", url="http://127.0.0.1:8000")

    (line,) = capsys.readouterr().err.splitlines()
    assert "serving" in line
    assert "url=http://127.0.0.1:8000" in line


def test_events_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="warning", log_format="json"))
    log = structlog.get_logger("lensmount_service.test")
    log.info("told to nobody")
    log.warning("told")

    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "told"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_shows_no_local_variables(
    capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"]
) -> None:
    logs.configure(Settings(log_level="error", log_format=log_format))

    def fail() -> None:
        token = "secret-" + "token"
        raise ValueError(len(token))

    try:
        fail()
    except ValueError as error:
        structlog.get_logger("lensmount_service.test").error("unexpected error", exc_info=error)

    text = capsys.readouterr().err
    assert "ValueError: 12" in text
    assert "secret-token" not in text


def test_a_library_adds_no_line_of_its_own_about_what_a_client_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """python-multipart warns of each chunk behind the last boundary, and its lines are not JSON."""
    logs.configure(Settings(log_level="info", log_format="json"))

    parser = MultipartParser(b"B")
    for chunk in [b"--B\r\n\r\nx\r\n--B--\r\n", *[b"x"] * 100]:
        parser.write(chunk)

    assert capsys.readouterr().err == ""
