"""Configures logging: one line per event, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Protocol

import structlog


class LogSettings(Protocol):
    """The settings that servers and workers share."""

    @property
    def log_level(self) -> str: ...
    @property
    def log_format(self) -> str: ...


def configure(settings: LogSettings) -> None:
    """Send structlog to stderr at the configured level. uvicorn itself logs only warnings and errors."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _unchanged(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return event
