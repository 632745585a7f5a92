"""A worker's way to its server: files and publications over HTTP, patient with a server that is away for a while."""

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

log = structlog.get_logger(__name__)

T = TypeVar("T")

WRONG_WORKER = frozenset({401, 403, 421})  # a token that does not fit is no fault of the job
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507}) | WRONG_WORKER
CHUNK_BYTES = 2**20


class ServerAway(Exception):
    """The server did not answer for longer than the worker's patience."""


class ServerRefused(Exception):
    """The server answered that it will not, and would again."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServerClient:
    """`link.fetch("/datasets/cells/file", target)`, `link.send("PUT", "/jobs/.../files/card.md", path)`.

    `check` is called between attempts and may raise to give up. Raises LeaseLost, Refused or ServerAway.
    """

    def __init__(self, url: str, token: str | None, patience_s: float, check: Callable[[], None]) -> None:
        host = urlsplit(url).hostname or ""
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=url.startswith("https:"),  # else half of the time here would go into reading certificates
            timeout=httpx.Timeout(60, connect=5),
            trust_env=host not in ("127.0.0.1", "localhost", "::1"),  # no proxy on the way to oneself
        )
        self._patience_s = patience_s
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
        """Download to `target`, whole or not at all; `digest`, where given, is that of the bytes."""

        def once() -> None:
            temporary = target.with_name(f".{target.name}.tmp")
            try:
                with self._client.stream("GET", path, params=params, headers=headers) as response:
                    _raise_for(response)
                    found = hashlib.sha256()
                    with temporary.open("wb") as file:
                        for chunk in response.iter_bytes(CHUNK_BYTES):
                            file.write(chunk)
                            found.update(chunk)
                            self._check()
                if digest is not None and f"sha256:{found.hexdigest()}" != digest:
                    raise httpx.ReadError("the bytes do not match their digest")
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

        self._patiently(once)

    def get(self, path: str) -> dict[str, Any]:
        """A JSON document."""

        def once() -> dict[str, Any]:
            response = self._client.get(path)
            _raise_for(response)
            document: dict[str, Any] = response.json()
            return document

        return self._patiently(once)

    def send(
        self,
        path: str,
        source: Path | bytes,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """PUT bytes or a file; returns the answer's document."""

        def once() -> dict[str, Any]:
            content = source if isinstance(source, bytes) else _chunks(source)
            length = len(source) if isinstance(source, bytes) else source.stat().st_size
            sent = {**(headers or {}), "Content-Length": str(length), "Content-Type": "application/octet-stream"}
            response = self._client.put(path, content=content, params=params, headers=sent)
            _raise_for(response)
            document: dict[str, Any] = response.json() if response.content else {}
            return document

        return self._patiently(once)

    def _patiently(self, once: Callable[[], T]) -> T:
        give_up = time.monotonic() + self._patience_s
        delay_s = 0.1
        while True:
            self._check()
            try:
                return once()
            except (httpx.TransportError, _TryAgain) as error:
                if time.monotonic() > give_up:
                    raise ServerAway(f"the server does not answer: {error}") from error
                log.debug("server away", reason=str(error))
            _sleep(delay_s * random.uniform(0.5, 1.0), self._check)
            delay_s = min(5.0, delay_s * 2)


class _TryAgain(Exception):
    """An answer that may be another one later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        document = response.json()
        code, detail = str(document["code"]), str(document["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = f"http_{response.status_code}", response.reason_phrase
    if code in ("lease_lost", "job_not_found"):
        raise LeaseLost(detail)
    if response.status_code in RETRIED and code != "adapter_corrupt":
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
def open_link(url: str, token: str | None, patience_s: float, check: Callable[[], None]) -> Iterator[ServerClient]:
    """A link that is closed at the end."""
    link = ServerClient(url, token, patience_s, check)
    try:
        yield link
    finally:
        link.close()


def require_server(url: str, token: str | None, backbone: str) -> None:
    """Check that a server which is there takes this worker; one that is not there yet is waited for later.

    Raises Unauthorized, or Unavailable where it holds another backbone, whose jobs this worker would never claim.
    """
    with open_link(url, token, 0, _go_on) as link:
        try:
            found = link.get("/health/ready").get("backbone", backbone)
            if found != backbone:
                raise Unavailable(
                    f"found a server with the backbone {found}, expected {backbone}. Fix: --backbone {found}",
                    code="backbone_mismatch",
                )
            link.get("/limits")
        except ServerAway as away:
            if isinstance(away.__cause__, _TryAgain) and away.__cause__.status in WRONG_WORKER:
                raise Unauthorized(f"the server at {url} refuses this worker. Fix: its token, by --token") from away
            log.warning("server not there yet", server=url, reason=str(away))


def _go_on() -> None:
    """There is no job to lose."""
