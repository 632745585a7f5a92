"""The span of a request or a job while it lasts, and what was measured inside it.

A span is found by context, as `current()`: what runs for a request in a coroutine or in `asyncio.to_thread` finds its
own. Without tracing it is `NO_SPAN`, which does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]

NAME = "lensmount.adapter.name"
DIGEST = "lensmount.adapter.digest"
TIER = "lensmount.adapter.tier"
MODE = "lensmount.branch.mode"
BATCH_SIZE = "lensmount.batch.size"
IMAGES = "lensmount.images"
REQUEST_ID = "lensmount.request_id"
JOB_ID = "lensmount.job.id"


class Span(Protocol):
    """`span.child("decode", started, ended, {"lensmount.images": 1})`; safe from any thread.

    `recording` says whether anybody will see it: work that is only for a trace is left out otherwise.
    """

    @property
    def recording(self) -> bool: ...
    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, also of a trace that is not recorded; "" without tracing."""
        ...

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits, or ""."""
        ...

    @property
    def traceparent(self) -> str:
        """The header of W3C Trace Context that makes another process's span a child of this one; "" without tracing."""
        ...

    def child(self, name: str, started: float, ended: float, attributes: Attributes) -> None:
        """Note a part of the work that is over; `started` and `ended` are readings of time.perf_counter."""
        ...

    def rest(self, name: str) -> None:
        """Note as a child the time since the last one ended, or since the beginning."""
        ...

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        """The work is over; `error` says what went wrong, in one word."""
        ...


class _NoSpan:
    recording = False
    trace_id = span_id = traceparent = ""

    def child(self, name: str, started: float, ended: float, attributes: Attributes) -> None:
        """Nobody sees it."""

    def rest(self, name: str) -> None:
        """Nobody sees it."""

    def end(self, name: str, attributes: Attributes, error: str = "") -> None:
        """Nobody sees it."""


NO_SPAN: Span = _NoSpan()
_current: ContextVar[Span] = ContextVar("lensmount_span", default=NO_SPAN)


def current() -> Span:
    """The span of the request or the job that is being worked on."""
    return _current.get()


@contextmanager
def entered(span: Span) -> Iterator[Span]:
    """What is done inside belongs to this span."""
    token = _current.set(span)
    try:
        yield span
    finally:
        _current.reset(token)


def stage(name: str, **attributes: Value) -> AbstractContextManager[None]:
    """Measure what is done inside, as a child of the current span; `digest` and `images` say of what."""
    span = current()
    return _measured(span, name, attributes) if span.recording else _NOTHING


_NOTHING = nullcontext()


@contextmanager
def _measured(span: Span, name: str, attributes: Attributes) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        span.child(name, started, time.perf_counter(), {_KEYS[key]: value for key, value in attributes.items()})


_KEYS = {"digest": DIGEST, "images": IMAGES}
