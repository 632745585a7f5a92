"""Configures logging: one line per event, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from typing import Protocol, TextIO, cast

import structlog


class LogSettings(Protocol):
    """The settings that servers and workers share."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...


def configure(settings: LogSettings) -> None:
    """Send structlog to stderr at the configured level. uvicorn itself logs only warnings and errors."""
    sink = Sink(sys.stderr)
    logging.basicConfig(stream=sink, level=logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # otherwise a body may write a line for each chunk
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=24,
            exception_formatter=structlog.dev.plain_traceback,  # rich would print local variables: pixels, tokens
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if settings.log_format == "json" else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, sink)),
        cache_logger_on_first_use=False,
    )


def _unchanged(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event


class Sink:
    """Where log lines go: a stream that nobody waits for. What it cannot take now is left out, and counted.

    Otherwise a reader that has stopped (`lensmount serve 2>&1 | less`) would stop each request that logs a line, and a
    full disk would fail it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
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
            note = f"{self._lost} lines of the log were lost, because nobody read them in time\n" if self._lost else ""
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
