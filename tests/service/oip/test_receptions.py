"""Only so many messages arrive at once, callers take turns, and one that does not come in time makes room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from lensmount_service.errors import QueueFull, Unavailable
from lensmount_service.oip.receptions import AT_ONCE, STREAMS, Receptions


class Sender:
    """Messages that are complete once `go` is set. Counts those that arrive at the same time."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.arriving = self.most = 0
        self.order: list[str] = []

    def of(self, caller: str) -> Callable[[], Awaitable[str]]:
        async def message() -> str:
            self.order.append(caller)
            self.arriving += 1
            self.most = max(self.most, self.arriving)
            try:
                await self.go.wait()
            finally:
                self.arriving -= 1
            return caller

        return message


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(story: Callable[[Receptions, Sender], Coroutine[Any, Any, None]], timeout_s: float = 60.0) -> None:
    async def told() -> None:
        await story(Receptions(timeout_s), Sender())

    asyncio.run(told())


def test_a_caller_gets_a_share_and_all_together_no_more_than_the_limit() -> None:
    async def story(receptions: Receptions, sender: Sender) -> None:
        one = [asyncio.ensure_future(receptions.read("a", sender.of("a"))) for _ in range(3 * AT_ONCE)]
        await settled()
        assert sender.arriving == AT_ONCE // 2
        others = [asyncio.ensure_future(receptions.read(f"b{n}", sender.of("b"))) for n in range(3 * AT_ONCE)]
        await settled()
        assert sender.arriving == AT_ONCE
        sender.go.set()
        assert len(await asyncio.gather(*one, *others)) == 6 * AT_ONCE
        assert sender.most == AT_ONCE

    run(story)


def test_callers_take_turns() -> None:
    async def story(receptions: Receptions, sender: Sender) -> None:
        first = [asyncio.ensure_future(receptions.read(f"c{n}", sender.of("c"))) for n in range(AT_ONCE)]
        await settled()
        loud = [asyncio.ensure_future(receptions.read("loud", sender.of("loud"))) for _ in range(5)]
        quiet = asyncio.ensure_future(receptions.read("quiet", sender.of("quiet")))
        await settled()
        sender.go.set()
        await asyncio.gather(*first, *loud, quiet)
        assert sender.order[AT_ONCE:].index("quiet") == 1

    run(story)


def test_one_that_does_not_come_in_time_or_whose_client_leaves_makes_room() -> None:
    async def story(receptions: Receptions, sender: Sender) -> None:
        stuck = [asyncio.ensure_future(receptions.read(f"s{n}", sender.of("s"))) for n in range(AT_ONCE)]
        waiting = [asyncio.ensure_future(receptions.read("w", sender.of("w"))) for _ in range(2)]
        await settled()
        waiting[0].cancel()
        stuck[0].cancel()
        await settled()
        assert sender.order[-1] == "w"
        for told in await asyncio.gather(*stuck[1:], waiting[1], return_exceptions=True):
            assert isinstance(told, Unavailable)
            assert (told.code, told.retry_after_s) == ("overloaded", 1)
        sender.go.set()
        assert await receptions.read("next", sender.of("next")) == "next"

    run(story, timeout_s=0.05)


def test_streams_are_few_and_one_that_ends_makes_room() -> None:
    receptions = Receptions(1.0)
    opened = [receptions.stream("a") for _ in range(STREAMS // 2)]
    for stream in opened:
        stream.__enter__()
    with pytest.raises(QueueFull, match=r"found 32 streams of this token and 32 of all, .* Fix: send more requests"):
        receptions.stream("a").__enter__()
    others = [receptions.stream(f"b{n}") for n in range(STREAMS - len(opened))]
    for stream in others:
        stream.__enter__()
    with pytest.raises(QueueFull):
        receptions.stream("c").__enter__()
    opened[0].__exit__(None, None, None)
    with receptions.stream("c"):
        pass


def test_several_callers_who_take_all_they_can_leave_room_for_others() -> None:
    async def story(receptions: Receptions, sender: Sender) -> None:
        greedy = [
            asyncio.ensure_future(receptions.read(f"g{caller}", sender.of("g")))
            for caller in range(3)
            for _ in range(AT_ONCE)
        ]
        await settled()
        assert sender.arriving == AT_ONCE // 2 + AT_ONCE // 4 + AT_ONCE // 8
        quiet = asyncio.ensure_future(receptions.read("quiet", sender.of("quiet")))
        await settled()
        assert sender.order[-1] == "quiet"
        sender.go.set()
        await asyncio.gather(*greedy, quiet)

    run(story)
