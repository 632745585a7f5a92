"""Each event is one line on stderr: text for people, or JSON for machines."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
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


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe that nobody reads from; its other end is stderr."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        logs.configure(Settings(log_level="info", log_format="json"))
        yield reading
    os.close(reading)


def test_nobody_waits_for_a_log_that_is_not_read_and_what_is_lost_is_counted(pipe: int) -> None:
    log = structlog.get_logger("lensmount_service.test")
    for number in range(5000):
        log.info("request", number=number, text="x" * 100)
    log.error("unexpected error", text="y" * 200_000)

    first = read_all(pipe)
    log.info("request", number=5000)
    last = read_all(pipe)

    whole = first.decode().splitlines()
    assert [json.loads(line)["number"] for line in whole] == list(range(len(whole)))
    assert 100 < len(whole) < 5000
    note, line = last.decode().splitlines()
    assert note == f"{5001 - len(whole)} lines of the log were lost, because nobody read them in time"
    assert json.loads(line)["number"] == 5000


def read_all(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while block := os.read(pipe, 2**16):
            data += block
    return data


def test_a_log_on_a_full_or_closed_disk_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure(Settings(log_level="info", log_format="text"))
        log = structlog.get_logger("lensmount_service.test")
        log.info("request")
        logging.getLogger("uvicorn.error").error("a line of a library")
    log.info("request")  # the stream is closed now
