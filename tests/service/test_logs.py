"""Each event is one line on stderr: text for people, or JSON for machines."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog
from python_multipart.multipart import MultipartParser

from lensmount_service import logs
from lensmount_service.settings import Settings
from lensmount_service.tracing.span import entered


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    logging.captureWarnings(False)
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
    note, line = map(json.loads, last.decode().splitlines())
    assert (note["event"], note["lines"]) == ("lines of the log were lost", 5001 - len(whole))
    assert note["timestamp"].endswith("Z")
    assert line["number"] == 5000


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


HOSTILE = [
    "line\nbreak",
    "\r\x1b[2J\x00\x07",
    "\u2028\u2029\u0085",
    "\ud800 half a pair",
    '{"event": "forged"}\n{"event": "forged"}',
    "x" * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_a_client_sends_breaks_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"], text: str
) -> None:
    logs.configure(Settings(log_level="info", log_format=log_format))
    root = logging.getLogger()  # pytest's own handlers would put half a pair into a report, which cannot be sent
    monkeypatch.setattr(root, "handlers", [each for each in root.handlers if "_pytest" not in type(each).__module__])
    structlog.get_logger("lensmount_service.test").info("request", reason=text)
    logging.getLogger("uvicorn.error").warning("found %s", text)

    ours, theirs = capsys.readouterr().err.split("\n")[:-1]
    if log_format == "json":
        assert json.loads(ours)["reason"] == text
        assert json.loads(theirs)["event"] == f"found {text}"
    assert (ours + theirs).isprintable()


def test_what_libraries_log_has_the_same_keys(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="info", log_format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    logging.getLogger("uvicorn.error").info("told to nobody")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("error", "uvicorn.error"),
        ("warning", "py.warnings"),
    ]
    assert lines[0]["event"] == "Exception in ASGI application"
    assert lines[0]["exception"].endswith("ValueError: broken")
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_an_error_that_ends_the_process_or_a_thread_is_one_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    logs.configure(Settings(log_level="error", log_format="json"))
    sys.excepthook(ValueError, ValueError("broken"), None)

    def fail() -> None:
        raise KeyError("broken")

    thread = threading.Thread(target=fail, name="lensmount-test")
    thread.start()
    thread.join()

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["exception"]) == ("critical", "ValueError: broken")
    assert (second["level"], second["thread"]) == ("critical", "lensmount-test")
    assert second["exception"].endswith("KeyError: 'broken'")


def test_numbers_that_json_does_not_have_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="info", log_format="json"))
    structlog.get_logger("lensmount_service.test").info("epoch", loss=float("nan"), name="a", path=Path("a"))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads(capsys.readouterr().err, parse_constant=refuse)
    assert (line["event"], line["loss"], line["name"]) == ("epoch", "nan", "a")


def test_a_line_inside_a_span_names_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    class InTrace:
        recording, trace_id, span_id, traceparent = False, "1" * 32, "2" * 16, ""

        def child(self, *_: object) -> None: ...
        def rest(self, *_: object) -> None: ...
        def end(self, *_: object) -> None: ...

    logs.configure(Settings(log_level="info", log_format="json"))
    log = structlog.get_logger("lensmount_service.test")
    with entered(InTrace()):
        log.info("request")
        logging.getLogger("uvicorn.error").warning("a line of a library")
    log.info("request")

    *inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert [(line["trace_id"], line["span_id"]) for line in inside] == [("1" * 32, "2" * 16)] * 2
    assert "trace_id" not in outside


def test_lines_of_several_threads_never_mix(pipe: int) -> None:
    log, library = structlog.get_logger("lensmount_service.test"), logging.getLogger("uvicorn.error")

    def write(number: int) -> None:
        for _ in range(20):
            log.info("request", number=number)
            library.warning("a line of a library")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = [json.loads(line) for line in read_all(pipe).decode().splitlines()]
    assert {line["event"] for line in lines} <= {"request", "a line of a library", "lines of the log were lost"}
