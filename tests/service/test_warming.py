"""A server takes requests once its first adapters have answered an image, or have been waited for long enough."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lensmount_service import warming
from lensmount_service.warming import warmed


def test_adapters_have_answered_an_image_before_requests_are_taken(make_parts: Any, make_adapter: Any) -> None:
    with make_parts() as parts:
        for number in (1, 2):
            parts.catalog.upload(f"cells-{number}", make_adapter(number))
    with make_parts() as parts:
        seen = recorded(parts.engine)
        with parts.engine:
            asyncio.run(entered(parts, threading.Event()))

        digests = {entry.latest.digest for entry in parts.catalog.entries()}
        assert {digest for digest, _ in seen} == digests
        assert all(trial for _, trial in seen)  # the metrics show what clients asked for
        assert {parts.catalog.tier(entry.latest) for entry in parts.catalog.entries()} == {"hot"}


@pytest.mark.parametrize("told_to_stop", [True, False])
def test_it_waits_neither_longer_than_allowed_nor_after_the_server_was_told_to_stop(
    make_parts: Any, monkeypatch: pytest.MonkeyPatch, told_to_stop: bool
) -> None:
    hanging, stopping = threading.Event(), threading.Event()
    if told_to_stop:
        stopping.set()
    else:
        monkeypatch.setattr(warming, "MOST_S", 0.05)
    with make_parts() as parts:
        monkeypatch.setattr(parts.catalog, "warm", lambda most=64: hanging.wait(30) and [])
        try:
            asyncio.run(entered(parts, stopping, hanging.set))
        finally:
            hanging.set()


def test_a_store_that_fails_is_logged_and_the_server_starts(make_parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(most: int = 64) -> None:
        raise OSError("no disk")

    with make_parts() as parts:
        monkeypatch.setattr(parts.catalog, "warm", fails)
        asyncio.run(entered(parts, threading.Event()))


async def entered(parts: Any, stopping: threading.Event, then: Any = lambda: None) -> None:
    async with warmed(parts.catalog, parts.engine, stopping):
        then()


def recorded(engine: Any) -> list[tuple[str, bool]]:
    """(digest, trial) of each image that the engine is given from now on."""
    seen: list[tuple[str, bool]] = []
    submit = engine.submit_many

    def submit_many(work: Any, *args: Any, trial: bool = False, **more: Any) -> Any:
        seen.extend((adapter.digest, trial) for adapter, _ in work)
        return submit(work, *args, trial=trial, **more)

    engine.submit_many = submit_many
    return seen
