"""Configures logging: one line per event, as text for people or JSON for machines."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from lensmount_service.tracing.span import current

log = structlog.get_logger(__name__)


class LogSettings(Protocol):
    """The settings that servers and workers share."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...


def configure(settings: LogSettings) -> None:
    """Send structlog to stderr at the configured level, and the warnings and errors of libraries in the same form.

    Every line of JSON is one object with `timestamp`, `level` and `event`; a traceback is in `exception`.
    """
    as_json = settings.log_format == "json"
    sink = Sink(sys.stderr, _lost_in_json if as_json else _lost_in_words)
    chain: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
        structlog.processors.format_exc_info if as_json else _in_one_line,
    ]
    renderer = structlog.processors.JSONRenderer(serializer=_dumps) if as_json else _for_people()
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, sink)),  # a line in one write
        cache_logger_on_first_use=False,
    )
    lines = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *chain],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    _listen_to_libraries(LibraryLines(cast(TextIO, sink)), lines)
    if as_json:
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
        if threading.excepthook is threading.__excepthook__:  # otherwise somebody watches the threads, such as pytest
            threading.excepthook = _uncaught_in_thread


class LibraryLines(logging.StreamHandler[TextIO]):
    """Writes what libraries log, such as uvicorn and asyncio."""


def _listen_to_libraries(handler: LibraryLines, formatter: logging.Formatter) -> None:
    """Replace the handler of an earlier call; those of others stay."""
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, LibraryLines)]:
        root.removeHandler(earlier)
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # otherwise a body may write a line for each chunk


def _for_people() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=24,
        exception_formatter=structlog.dev.plain_traceback,  # rich would print local variables: pixels, tokens
    )


def _with_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Name the trace that the line belongs to, if there is one."""
    span = current()
    if span.trace_id:
        event["trace_id"], event["span_id"] = span.trace_id, span.span_id
    return event


def _in_one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what would end the line or move the cursor; a name or a reason may have it from a client."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return event


def _dumps(event: EventDict, **options: Any) -> str:
    """JSON that every reader takes: ASCII, without NaN."""
    try:
        return json.dumps(event, allow_nan=False, **options)
    except ValueError:
        return json.dumps({key: value if isinstance(value, str) else repr(value) for key, value in event.items()})


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python writes a traceback of many lines."""
    log.critical("the process ends with an unexpected error", exc_info=(kind, error, trace))


def _uncaught_in_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit:
        log.critical(
            "a thread ends with an unexpected error",
            thread=None if ended.thread is None else ended.thread.name,
            exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
        )


def _lost_in_words(lines: int) -> str:
    return f"{lines} lines of the log were lost, because nobody read them in time\n"


def _lost_in_json(lines: int) -> str:
    now = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", {})
    return _dumps({"lines": lines, "event": "lines of the log were lost", "level": "warning", **now}) + "\n"


class Sink:
    """Where log lines go: a stream that nobody waits for. What it cannot take now is left out, and counted.

    Otherwise a reader that has stopped (`lensmount serve 2>&1 | less`) would stop each request that logs a line, and a
    full disk would fail it. `lost` is the line about as many lines.
    """

    def __init__(self, stream: TextIO, lost: Callable[[int], str] = _lost_in_words) -> None:
        self._stream = stream
        self._lost_line = lost
        self._lock = threading.Lock()
        self._text = ""
        self._lost = 0
        self._torn = False  # the last line has no end
        try:
            self._number: int | None = stream.fileno()
        except (OSError, ValueError):  # a stream in memory
            self._number = None

    def write(self, text: str) -> int:
        with self._lock:
            self._text += text
        return len(text)

    def flush(self) -> None:
        with self._lock:
            text, self._text = self._text, ""
            note = self._lost_line(self._lost) if self._lost else ""
            note = f"\n{note}" if self._torn else note
            try:
                self._put(note + text)
                self._lost, self._torn = 0, False
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._lost += text.count("\n")

    def _put(self, text: str) -> None:
        """Raises OSError if the stream has no room now."""
        if self._number is None:
            self._stream.write(text)
            return
        data = text.encode("utf-8", "backslashreplace")
        while data:
            if not select.select([], [self._number], [], 0)[1]:
                raise BlockingIOError
            data = data[os.write(self._number, data[: select.PIPE_BUF]) :]  # a ready pipe has room for so much
            self._torn = bool(data)
