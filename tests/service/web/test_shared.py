from __future__ import annotations

import asyncio

import pytest

from lensmount_service.web.shared import Shared


class Work:
    """Counts how often it was begun. Each run ends when `go` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go.wait()
        if number == 13:
            raise RuntimeError("unlucky")
        return number


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_all_who_ask_meanwhile_get_the_result_of_one_run() -> None:
    work = Work()
    shared = Shared(work)
    asking = [asyncio.create_task(shared.get()) for _ in range(100)]
    await asyncio.sleep(0)
    work.go.set()

    assert await asyncio.gather(*asking) == [(1, 0.0)] * 100
    assert work.begun == 1
    assert (await shared.get(), work.begun) == ((2, 0.0), 2)  # without an age, only work in progress is shared


@pytest.mark.anyio
async def test_who_leaves_does_not_stop_the_work_of_the_others() -> None:
    work = Work()
    shared = Shared(work)
    leaving, staying = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    work.go.set()

    assert await staying == (1, 0.0)


@pytest.mark.anyio
async def test_a_young_result_is_given_again_with_its_age() -> None:
    now = 100.0
    work = Work()
    work.go.set()
    shared = Shared(work, 30.0, lambda: now)
    assert await shared.get() == (1, 0.0)
    now += 29.0
    assert await shared.get() == (1, 29.0)
    now += 1.0
    assert await shared.get() == (2, 0.0)


@pytest.mark.anyio
async def test_an_error_reaches_all_who_asked_and_is_not_kept() -> None:
    work = Work()
    work.begun = 12
    shared = Shared(work, 30.0)
    asking = [asyncio.create_task(shared.get()) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()

    assert [str(error) for error in await asyncio.gather(*asking, return_exceptions=True)] == ["unlucky"] * 3
    assert await shared.get() == (14, 0.0)
