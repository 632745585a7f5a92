"""What was measured belongs to the span of its context; without tracing, nothing is measured."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lensmount_service.tracing.span import DIGEST, NO_SPAN, Attributes, current, entered, stage


class Noted:
    """A span that keeps what it is told."""

    trace_id, span_id = "1" * 32, "2" * 16
    traceparent = f"00-{trace_id}-{span_id}-01"

    def __init__(self, *, recording: bool = True) -> None:
        self.recording = recording
        self.children: list[tuple[Any, ...]] = []

    def child(self, name: str, started: float, ended: float, attributes: Attributes) -> None:
        self.children.append((name, started <= ended, dict(attributes)))

    def rest(self, name: str) -> None: ...

    def end(self, name: str, attributes: Attributes, error: str = "") -> None: ...


def test_without_tracing_there_is_one_span_that_does_nothing() -> None:
    assert current() is NO_SPAN
    assert (NO_SPAN.recording, NO_SPAN.trace_id, NO_SPAN.span_id, NO_SPAN.traceparent) == (False, "", "", "")
    NO_SPAN.child("decode", 0.0, 1.0, {})
    NO_SPAN.rest("respond")
    NO_SPAN.end("request", {})


def test_a_stage_is_a_child_of_the_span_around_it_also_if_it_fails() -> None:
    span = Noted()
    with entered(span):
        with stage("admit", digest="sha256:1"):
            pass
        with pytest.raises(ValueError, match="broken"), stage("fetch"):
            raise ValueError("broken")
    assert span.children == [("admit", True, {DIGEST: "sha256:1"}), ("fetch", True, {})]
    assert current() is NO_SPAN


def test_a_stage_of_a_trace_that_is_not_recorded_is_not_noted() -> None:
    span = Noted(recording=False)
    with entered(span), stage("admit"):
        pass
    assert span.children == []


def test_each_task_and_its_threads_have_their_own_span() -> None:
    async def request(span: Noted) -> None:
        with entered(span):
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: current().child("read", 0.0, 0.0, {}))
            assert current() is span

    async def both() -> list[Noted]:
        spans = [Noted(), Noted()]
        await asyncio.gather(*map(request, spans))
        return spans

    assert [len(span.children) for span in asyncio.run(both())] == [1, 1]
