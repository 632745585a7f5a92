"""Adapter files of other servers, named by a URL and pinned by their SHA-256.

`https://` and `http://` are asked as listed_hosts.py says; `hf://OWNER/REPO[@REVISION]/PATH` is such a URL of the hub.
A redirect is followed only to a host that is listed as well. `s3://BUCKET/KEY` is read with the credentials and the
endpoint of this server, so the bucket itself must be listed. What comes is hashed while it comes, and refused unless it
is what the pin says. The caller admits it like an upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from lensmount_service.errors import BodyTooLarge, Forbidden, QueueFull, RequestInvalid
from lensmount_service.sources.listed_hosts import MAX_URL, ListedHosts, Refused, Resolve, addresses_of

FETCH_S = 60.0  # for one file, from the name to its last byte
MOST = 4  # files at a time, of all callers
MOST_OF_ONE = 2  # of one caller, so that one with slow sources leaves room to others
MAX_REDIRECTS = 5
HUB = "https://huggingface.co"
_HUB_FILE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.%-]+))?/(?P<path>[^/].*)", re.ASCII)
_BUCKET_FILE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
_SEND = "or download the file and send it with PUT /adapters/{name}"


@dataclass(slots=True)
class Received:
    """The bytes so far. Raises BodyTooLarge beyond the limit, and what `hold` raises if the memory is full."""

    most: int
    hold: Callable[[int], object]
    data: bytearray = field(default_factory=bytearray)

    def add(self, chunk: bytes) -> None:
        self.expect(len(self.data) + len(chunk))
        self.hold(len(chunk))
        self.data += chunk

    def expect(self, size: int) -> None:
        if size > self.most:
            raise BodyTooLarge(
                f"found a file of {size} bytes or more at the URL, expected at most {self.most} bytes. "
                "Fix: name an adapter file; the weights of a whole network are no adapter"
            )


class AdapterSources:
    """`await AdapterSources("huggingface.co", 2**26).fetch(url, "sha256:...", caller, hold)`.

    Only the event loop's thread may call it. `listed` are hosts and buckets: "huggingface.co, s3://adapters".
    """

    def __init__(
        self,
        listed: str,
        max_bytes: int,
        *,
        timeout_s: float = FETCH_S,
        resolve: Resolve = addresses_of,
        hub: str = HUB,
    ) -> None:
        self._hosts = ListedHosts(listed, resolve)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._hub = hub
        self._running: Counter[str] = Counter()

    async def fetch(self, url: str, digest: str, caller: str, hold: Callable[[int], object]) -> bytes:
        """The bytes with this digest. `hold` is told how many bytes more are in memory.

        Raises Forbidden (`source_not_allowed`), RequestInvalid (`source_unavailable`, `digest_mismatch`),
        BodyTooLarge or QueueFull.
        """
        received = Received(self._max_bytes, hold)
        with self._turn(caller):
            try:
                async with asyncio.timeout(self._timeout_s):
                    await (self._read_bucket(url, received) if url.startswith("s3:") else self._read(url, received))
            except Refused as refused:
                raise _refusal(refused) from refused
            except (OSError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:  # TimeoutError is an OSError
                raise _unavailable(
                    f"no complete answer ({type(error).__name__}) within {self._timeout_s:g} s"
                ) from error
        found = await asyncio.to_thread(lambda: hashlib.sha256(received.data).hexdigest())
        if f"sha256:{found}" != digest:
            raise RequestInvalid(
                f"found a file with another SHA-256 at the URL ({len(received.data)} bytes). Fix: compare the digest "
                "with the one that the file's owner states, and name a URL of that revision",
                code="digest_mismatch",
            )
        return bytes(received.data)

    @contextmanager
    def _turn(self, caller: str) -> Iterator[None]:
        if self._running.total() >= MOST or self._running[caller] >= MOST_OF_ONE:
            raise QueueFull(
                f"found {self._running.total()} files that are fetched now, expected at most {MOST}, and "
                f"{MOST_OF_ONE} of one caller. Fix: try again in 5 s",
                retry_after_s=5,
            )
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            self._running += Counter()  # forgets callers without any

    async def _read(self, url: str, received: Received) -> None:
        url = self._hub_url(url) if url.startswith("hf:") else url
        for _ in range(MAX_REDIRECTS + 1):
            async with self._hosts.get(url, self._timeout_s) as response:
                if response.is_redirect:
                    target = urljoin(url, response.headers.get("location", ""))
                    if url.startswith("https:") and not target.startswith("https:"):
                        raise Refused("url")
                    url = target
                    continue
                if response.status_code != httpx.codes.OK:
                    raise _unavailable(f"the status {response.status_code}")
                received.expect(_stated_length(response))
                async for chunk in response.aiter_raw():
                    received.add(chunk)
                return
        raise _unavailable(f"more than {MAX_REDIRECTS} redirects")

    def _hub_url(self, url: str) -> str:
        found = _HUB_FILE.fullmatch(url)
        if found is None:
            raise Refused("url")
        revision = found["revision"] or "main"  # with %2F for a slash, as in huggingface_hub
        return f"{self._hub}/{found['repo']}/resolve/{revision}/{quote(found['path'])}"

    async def _read_bucket(self, url: str, received: Received) -> None:
        found = _BUCKET_FILE.fullmatch(url)
        if found is None or len(url) > MAX_URL:
            raise Refused("url")
        if f"s3://{found['bucket']}" not in self._hosts.listed:
            raise Refused("host", f"s3://{found['bucket']}")
        async for chunk in _stream(found["bucket"], found["key"], self._timeout_s, received):
            received.add(chunk)


async def _stream(bucket: str, key: str, timeout_s: float, received: Received) -> AsyncIterator[bytes]:
    """The bytes of an object, by the extra s3."""
    try:
        import obstore
        import obstore.store
        from obstore.exceptions import BaseError
    except ModuleNotFoundError as error:
        raise _unavailable(
            'no library for s3:// on this server; its operator runs pip install "lensmount[s3]"'
        ) from error
    options: dict[str, Any] = {
        "client_options": {"timeout": f"{timeout_s:.0f}s", "allow_http": True},  # the endpoint's URL decides
        "retry_config": {"max_retries": 1},
    }
    try:
        store = obstore.store.from_url(f"s3://{bucket}", **options)
        answer = await obstore.get_async(store, key)
        received.expect(answer.meta["size"])
        async for chunk in answer.stream():
            yield bytes(chunk)
    except BaseError as error:
        raise _unavailable(f"a store that refuses ({type(error).__name__})") from error


def _stated_length(response: httpx.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _unavailable(found: str) -> RequestInvalid:
    return RequestInvalid(
        f"found {found} at the URL, expected the file. Fix: check that the URL gives it, {_SEND}",
        code="source_unavailable",
    )


def _refusal(refused: Refused) -> Forbidden:
    if refused.why == "url":
        found = (
            "a URL, or a redirect to one, that this server does not read, expected https://HOST/PATH, "
            f"hf://OWNER/REPO/PATH or s3://BUCKET/KEY without a password and of at most {MAX_URL} characters"
        )
        fix = "name such a URL"
    elif refused.why == "host":
        found = f"a file on {refused.host!r}, which this server does not fetch from"
        fix = "ask its operator to add it to LENSMOUNT_FETCH_HOSTS"
    else:
        found = f"the host {refused.host!r} at an address that is not public"
        fix = "ask the operator to list the address itself in LENSMOUNT_FETCH_HOSTS"
    return Forbidden(f"found {found}. Fix: {fix}, {_SEND}", code="source_not_allowed")
