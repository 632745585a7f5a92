"""Images of tasks on other servers: fetched only from listed hosts (listed_hosts.py), and within limits."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from lensmount_service.errors import RequestInvalid
from lensmount_service.sources.listed_hosts import MAX_URL, ListedHosts, Refused, Resolve, addresses_of

FETCH_S = 10.0  # for one image, from the name to its last byte


class ImageHosts:
    """`await ImageHosts("labels.example.org, 10.0.0.5:8080", max_bytes=2**25).fetch("https://labels...")`."""

    def __init__(
        self, listed: str, max_bytes: int, *, timeout_s: float = FETCH_S, resolve: Resolve = addresses_of
    ) -> None:
        self._hosts = ListedHosts(listed, resolve)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    def __bool__(self) -> bool:
        """Whether any host is listed."""
        return bool(self._hosts.listed)

    async def fetch(self, url: str) -> bytes:
        """The bytes that the host answers with. Raises RequestInvalid if it may not be asked, or if it fails."""
        try:
            shown = str(self._hosts.allowed(url).hostname)[:100]
            async with asyncio.timeout(self._timeout_s):
                return await self._get(url, shown)
        except Refused as refused:
            raise _refusal(refused) from refused
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:  # TimeoutError is an OSError
            raise RequestInvalid(
                f"found no answer of the image host {shown!r} ({type(error).__name__}), expected an image within "
                f"{self._timeout_s:g} s. Fix: check that the host answers, or import tasks with data: URLs"
            ) from error

    async def _get(self, url: str, shown: str) -> bytes:
        received = bytearray()
        async with self._hosts.get(url, self._timeout_s, "image/*") as response:
            if response.status_code != httpx.codes.OK:
                raise RequestInvalid(
                    f"found the status {response.status_code} for an image on {shown!r}, expected 200: redirects "
                    "are not followed. Fix: import tasks with the URL that gives the image itself"
                )
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > self._max_bytes:
                    raise RequestInvalid(
                        f"found an image of more than {self._max_bytes} bytes on {shown!r}. "
                        "Fix: import tasks with smaller images"
                    )
        return bytes(received)


def _refusal(refused: Refused) -> RequestInvalid:
    if refused.why == "url":
        return RequestInvalid(
            "found an image URL that is not http:// or https:// with a host, expected one without a password and "
            f"of at most {MAX_URL} characters. Fix: import tasks with such URLs, or with data: URLs"
        )
    if refused.why == "host":
        return RequestInvalid(
            f"found an image on the host {refused.host!r}, which this server does not fetch from. Fix: "
            "ask its operator to add the host to LENSMOUNT_LABELSTUDIO_HOSTS, or import tasks with data: URLs"
        )
    return RequestInvalid(
        f"found the host {refused.host!r} at an address that is not public. Fix: ask the operator to list "
        "the address itself in LENSMOUNT_LABELSTUDIO_HOSTS, and import tasks with that address"
    )
