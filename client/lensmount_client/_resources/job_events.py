"""The events of one job across lost connections, without I/O: the clients only connect, read and sleep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping

import httpx

from lensmount_client._api.jobs import job_path
from lensmount_client._api.read_jobs import event_of
from lensmount_client._errors import (
    LensmountError,
    ServerUnreachable,
    TimedOut,
    UnexpectedResponse,
    WaitTimeout,
)
from lensmount_client._http.call import transport_error
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.problem import error_of
from lensmount_client._http.response import Response
from lensmount_client._http.retry import RetryPolicy
from lensmount_client._http.sse import EventDecoder
from lensmount_client._types.jobs import JobEnd, JobEvent

EVENT_STREAM = "text/event-stream"
SILENCE_S = 45.0  # three keep-alives of the server; after this long without one the connection is dead
REOPEN_AFTER_S = 1.0  # if the server ended the events of a job that has not ended


class EventFeed:
    """The position of one listener in the events of a job.

        while (wait_s := feed.wait_s) is not None:
            sleep(wait_s); connect with feed.headers(); feed.opened(response) or feed.refused(response)
            for chunk in response: yield from feed.take(chunk)
            feed.lost(the error, or None for a stream that just stopped)

    `wait_s` is None after the `end` event. Only failures in a row count against the retry policy: anything that is
    received resets their count. With `timeout_s`, WaitTimeout is raised after that time. This is checked whenever
    the server sends something, which it does at least every 15 seconds.
    """

    def __init__(
        self,
        job_id: str,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job_id = job_id
        self.path = f"{job_path(job_id)}/events"
        self.wait_s: float | None = 0.0
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else clock() + timeout_s
        self._last_id: str | None = None
        self._failures = 0
        self._decoder = EventDecoder()

    def headers(self) -> dict[str, str]:
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        return headers if self._last_id is None else {**headers, "Last-Event-ID": self._last_id}

    def read_s(self, usual_s: float) -> float:
        """The longest silence to wait for."""
        silence_s = max(usual_s, SILENCE_S)
        return silence_s if self._deadline is None else min(silence_s, max(self._deadline - self._clock(), 0.001))

    def opened(self, status: int, headers: Mapping[str, str]) -> bool:
        """True if events follow. If not, read the response and pass it to `refused`."""
        self._decoder = EventDecoder()
        if not 200 <= status < 300:
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != EVENT_STREAM:
            raise UnexpectedResponse(
                f"found {kind or 'no content type'}, expected {EVENT_STREAM}", headers.get("x-request-id")
            )
        return True

    def refused(self, response: Response, policy: RetryPolicy) -> None:
        """Raise the server's error, or set `wait_s` for the next attempt."""
        self._failed(error_of(response, policy.clock()), None, policy)

    def take(self, chunk: bytes) -> Iterator[JobEvent]:
        self._check_deadline()
        if b"\n" in chunk or b"\r" in chunk:  # at least a complete line, even if it is a keep-alive
            self._failures = 0
        for received in self._decoder.feed(chunk):
            event = event_of(received.kind, _fields(received.data))
            if received.id:
                self._last_id = received.id
            if isinstance(event, JobEnd):
                self.wait_s = None
            if event is not None:
                yield event
            if self.wait_s is None:
                return

    def lost(self, failure: httpx.RequestError | None, policy: RetryPolicy, base_url: str) -> None:
        """Raise if no retries are left, or set `wait_s` for the next attempt."""
        self._check_deadline()
        error: LensmountError = ServerUnreachable(f"{base_url} ended the events of a job that has not ended")
        if failure is not None:
            error = transport_error(failure, base_url)
        if isinstance(error, TimedOut):  # silent for longer than the keep-alives, so the connection is dead
            error = ServerUnreachable(str(error))
        self._failed(error, failure, policy)

    def reopen(self) -> None:
        """Listen again after an `end` that was not final, because somebody retried the job."""
        self.wait_s = REOPEN_AFTER_S

    def _failed(self, error: LensmountError, cause: BaseException | None, policy: RetryPolicy) -> None:
        self._failures += 1
        self.wait_s = policy.wait_s(self._failures, error)
        if self.wait_s is None:
            raise error from cause

    def _check_deadline(self) -> None:
        if self._deadline is not None and self._clock() >= self._deadline:
            raise WaitTimeout(f"job {self.job_id} has not ended within {self._timeout_s:g} s; it continues")


def _fields(data: str) -> JsonFields:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnexpectedResponse(f"found an event that is not JSON ({error})") from error
    return JsonFields(value, "event", None)
