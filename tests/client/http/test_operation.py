"""Several calls as one operation: results go into the generator, and so do errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from lensmount_client import InvalidInput, QueueFull
from lensmount_client._http.call import Call
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation


def call(path: str) -> Call[Any]:
    return Call("GET", path, lambda response: None)


Send = Callable[[Call[Any]], Any]


def run(operation: Operation[Any], send: Send) -> Any:
    return run_operation(operation, cast(SendCall, send))


def arun(operation: Operation[Any], send: Send) -> Any:
    async def asend(one: Call[Any]) -> Any:
        return send(one)

    return asyncio.run(arun_operation(operation, cast(AsyncSendCall, asend)))


Runner = Callable[[Operation[Any], Send], Any]
RUNNERS = [run, arun]


@pytest.mark.parametrize("runner", RUNNERS)
def test_each_result_is_sent_back_and_the_last_value_is_returned(runner: Runner) -> None:
    def operation() -> Operation[list[str]]:
        first = yield call("/a")
        second = yield call(f"/{first}")
        return [first, second]

    assert runner(operation(), lambda one: one.path.strip("/") + "b") == ["ab", "abb"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_operation_without_calls_sends_nothing(runner: Runner) -> None:
    def operation() -> Operation[int]:
        return 7
        yield call("/never")

    assert runner(operation(), lambda one: pytest.fail("sent")) == 7


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_error_is_raised_where_the_call_was_made_and_may_be_handled_there(runner: Runner) -> None:
    def send(one: Call[Any]) -> str:
        if one.path == "/large":
            raise InvalidInput("too large")
        return one.path

    def operation() -> Operation[str]:
        try:
            yield call("/large")
        except InvalidInput:
            result: str = yield call("/small")
        return result

    assert runner(operation(), send) == "/small"


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_error_that_is_not_handled_ends_the_operation(runner: Runner) -> None:
    def send(one: Call[Any]) -> Any:
        raise InvalidInput(one.path)

    def operation() -> Operation[None]:
        try:
            yield call("/a")
        except QueueFull:
            pytest.fail("another error")
        yield call("/b")

    with pytest.raises(InvalidInput, match=r"^/a$"):
        runner(operation(), send)
