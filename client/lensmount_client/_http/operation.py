"""Several calls as one operation, without I/O: a generator yields calls and is sent their results."""

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


def run_operation(steps: Operation[T], run: SendCall) -> T:
    """Run each call; what it raises is raised in the generator, which may know a way on."""
    try:
        call = next(steps)
        while True:
            try:
                result = run(call)
            except LensmountError as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)


async def arun_operation(steps: Operation[T], run: AsyncSendCall) -> T:
    """The async twin of `run_operation`."""
    try:
        call = next(steps)
        while True:
            try:
                result = await run(call)
            except LensmountError as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as stop:
        return cast(T, stop.value)
