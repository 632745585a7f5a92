"""Several calls as one operation, without I/O: a generator yields calls and receives their results."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from lensmount_client._errors import LensmountError
from lensmount_client._http.call import Call

T = TypeVar("T")

Operation: TypeAlias = Generator[Call[Any], Any, T]


class SendCall(Protocol):
    def __call__(self, call: Call[T]) -> T: ...


class AsyncSendCall(Protocol):
    def __call__(self, call: Call[T]) -> Awaitable[T]: ...


def run_operation(operation: Operation[T], send: SendCall) -> T:
    """Send each call. An error is raised inside the generator, which may handle it and yield another call."""
    try:
        call = next(operation)
        while True:
            try:
                result = send(call)
            except LensmountError as error:
                call = operation.throw(error)
            else:
                call = operation.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)


async def arun_operation(operation: Operation[T], send: AsyncSendCall) -> T:
    """Like `run_operation`, for the async client."""
    try:
        call = next(operation)
        while True:
            try:
                result = await send(call)
            except LensmountError as error:
                call = operation.throw(error)
            else:
                call = operation.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)
