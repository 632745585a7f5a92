"""A worker's HTTP client: files and publications, with requests repeated while the server is away."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import structlog

from lensmount_service.errors import LeaseLost, Unauthorized, Unavailable
from lensmount_service.tracing.span import current

log = structlog.get_logger(__name__)

T = TypeVar("T")

WRONG_WORKER = frozenset({401, 403, 421})  # a wrong token is not the job's fault, so the job does not fail
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507}) | WRONG_WORKER
CHUNK_BYTES = 2**20


class ServerAway(Exception):
    """The server did not answer for longer than `retry_for_s`."""


class ServerRefused(Exception):
    """The server refused a request, and would refuse it again."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServerClient:
    """`server.fetch("/datasets/cells/file", target)`, `server.send("/jobs/.../files/card.md", path)`.

    A failed request is repeated for `retry_for_s` seconds. `check` is called between two tries and may raise to give
    up. Raises LeaseLost, ServerRefused or ServerAway.
    """

    def __init__(self, url: str, token: str | None, retry_for_s: float, check: Callable[[], None]) -> None:
        host = urlsplit(url).hostname or ""
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=url.startswith("https:"),  # otherwise half of the time here would go into reading certificates
            timeout=httpx.Timeout(60, connect=5),
            trust_env=host not in ("127.0.0.1", "localhost", "::1"),  # no proxy on the way to oneself
            event_hooks={"request": [_carry_trace]},
        )
        self._retry_for_s = retry_for_s
        self._check = check

    def close(self) -> None:
        self._client.close()

    def fetch(
        self,
        path: str,
        target: Path,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        digest: str | None = None,
    ) -> None:
        """Download to `target`, complete or not at all; the bytes must match `digest` if it is given."""

        def download() -> None:
            temporary = target.with_name(f".{target.name}.tmp")
            try:
                with self._client.stream("GET", path, params=params, headers=headers) as response:
                    _raise_for(response)
                    hashed = hashlib.sha256()
                    with temporary.open("wb") as file:
                        for chunk in response.iter_bytes(CHUNK_BYTES):
                            file.write(chunk)
                            hashed.update(chunk)
                            self._check()
                if digest is not None and f"sha256:{hashed.hexdigest()}" != digest:
                    raise httpx.ReadError("the bytes do not match their digest")
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

        self._with_retries(download)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET a JSON object."""

        def request() -> dict[str, Any]:
            response = self._client.get(path, headers=headers)
            _raise_for(response)
            fields: dict[str, Any] = response.json()
            return fields

        return self._with_retries(request)

    def send(
        self,
        path: str,
        source: Path | bytes,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """PUT bytes or a file; returns the JSON object of the response, empty if it has no body."""

        def request() -> dict[str, Any]:
            content = source if isinstance(source, bytes) else _chunks(source)
            length = len(source) if isinstance(source, bytes) else source.stat().st_size
            sent = {**(headers or {}), "Content-Length": str(length), "Content-Type": "application/octet-stream"}
            response = self._client.put(path, content=content, params=params, headers=sent)
            _raise_for(response)
            fields: dict[str, Any] = response.json() if response.content else {}
            return fields

        return self._with_retries(request)

    def _with_retries(self, request: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._retry_for_s
        delay_s = 0.1
        while True:
            self._check()
            try:
                return request()
            except (httpx.TransportError, _TryAgain) as error:
                if time.monotonic() > deadline:
                    raise ServerAway(f"the server does not answer: {error}") from error
                log.debug("server away", reason=str(error))
            _sleep(delay_s * random.uniform(0.5, 1.0), self._check)
            delay_s = min(5.0, delay_s * 2)


def _carry_trace(request: httpx.Request) -> None:
    """What the server does for a request is a part of the job."""
    if traceparent := current().traceparent:
        request.headers["traceparent"] = traceparent


class _TryAgain(Exception):
    """A response that may be different later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        problem = response.json()
        code, detail = str(problem["code"]), str(problem["detail"])
        lasting = code == "quota_exceeded" and problem.get("retry_after_s") is None
    except (ValueError, KeyError, TypeError, AttributeError):
        code, detail, lasting = f"http_{response.status_code}", response.reason_phrase, False
    if code in ("lease_lost", "job_not_found"):
        raise LeaseLost(detail)
    if response.status_code in RETRIED and not lasting and code not in ("adapter_corrupt", "alias_protected"):
        raise _TryAgain(response.status_code, f"{response.status_code} {code}: {detail}")
    raise ServerRefused(response.status_code, code, detail)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(0.1, left))


@contextmanager
def open_client(url: str, token: str | None, retry_for_s: float, check: Callable[[], None]) -> Iterator[ServerClient]:
    """A client that is closed at the end."""
    client = ServerClient(url, token, retry_for_s, check)
    try:
        yield client
    finally:
        client.close()


def require_server(url: str, token: str | None, backbone: str) -> None:
    """Check that the server accepts this worker. A server that is not up yet passes: requests to it are repeated later.

    Raises Unauthorized, or Unavailable if the server has another backbone, whose jobs this worker would never claim.
    """
    with open_client(url, token, 0, _always_continue) as server:
        try:
            backbone_there = server.get("/health/ready").get("backbone", backbone)
            if backbone_there != backbone:
                raise Unavailable(
                    f"found a server with the backbone {backbone_there}, expected {backbone}. "
                    f"Fix: --backbone {backbone_there}",
                    code="backbone_mismatch",
                )
            server.get("/limits")
        except ServerAway as away:
            if isinstance(away.__cause__, _TryAgain) and away.__cause__.status in WRONG_WORKER:
                raise Unauthorized(
                    f"the server at {url} refuses this worker. Fix: give the server's token with --token"
                ) from away
            log.warning("server not there yet", server=url, reason=str(away))


def _always_continue() -> None:
    """There is no job that could be lost."""
