"""Images of other servers: fetched only from hosts that the operator lists, and within limits.

A request to a URL that a client chose can reach what only this machine may reach. So a name is resolved once, every
address that it has must be public, and the connection goes to that address. An address that the operator lists itself
may be private. Redirects are not followed, and neither proxies nor cookies of this machine are used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property
from urllib.parse import SplitResult, urlsplit

import httpx

from lensmount_service.errors import RequestInvalid

PORTS = {"http": 80, "https": 443}
FETCH_S = 10.0  # for one image, from the name to its last byte
MAX_URL = 2048  # characters

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class ImageHosts:
    """`await ImageHosts("labels.example.org, 10.0.0.5:8080", max_bytes=2**25).fetch("https://labels...")`.

    `listed` are hosts, separated by commas; one without a port stands for the ports 80 and 443.
    """

    def __init__(
        self, listed: str, max_bytes: int, *, timeout_s: float = FETCH_S, resolve: Resolve = addresses_of
    ) -> None:
        self._listed = frozenset(host.strip().lower() for host in listed.split(",") if host.strip())
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolve = resolve

    def __bool__(self) -> bool:
        """Whether any host is listed."""
        return bool(self._listed)

    async def fetch(self, url: str) -> bytes:
        """The bytes that the host answers with. Raises RequestInvalid if it may not be asked, or if it fails."""
        parts = self._allowed(url)
        shown = str(parts.hostname)[:100]
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(parts, await self._address(parts))
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:  # TimeoutError is an OSError
            raise RequestInvalid(
                f"found no answer of the image host {shown!r} ({type(error).__name__}), expected an image within "
                f"{self._timeout_s:g} s. Fix: check that the host answers, or import tasks with data: URLs"
            ) from error

    def _allowed(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme)
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), None
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        if port is None or parts.scheme not in PORTS or len(url) > MAX_URL or "@" in parts.netloc:
            raise RequestInvalid(
                "found an image URL that is not http:// or https:// with a host, expected one without a password and "
                f"of at most {MAX_URL} characters. Fix: import tasks with such URLs, or with data: URLs"
            )
        names = {f"{host}:{port}"} | ({host} if port in PORTS.values() else set())
        if self._listed.isdisjoint(names):
            raise RequestInvalid(
                f"found an image on the host {f'{host}:{port}'[:100]!r}, which this server does not fetch from. Fix: "
                "ask its operator to add the host to LENSMOUNT_LABELSTUDIO_HOSTS, or import tasks with data: URLs"
            )
        return parts

    async def _address(self, parts: SplitResult) -> str:
        """The address to connect to. Raises RequestInvalid if the host has an address that is not public."""
        host = str(parts.hostname)
        if _is_address(host):
            return host  # the operator listed it as it is
        found = await self._resolve(host, parts.port or PORTS[parts.scheme])
        for address in found:
            if not _is_public(address):
                raise RequestInvalid(
                    f"found the host {host[:100]!r} at an address that is not public. Fix: ask the operator to list "
                    "the address itself in LENSMOUNT_LABELSTUDIO_HOSTS, and import tasks with that address"
                )
        if not found:
            raise OSError("no address")
        return found[0]

    async def _get(self, parts: SplitResult, address: str) -> bytes:
        host = str(parts.hostname)
        target = httpx.URL(parts.geturl()).copy_with(host=address)
        headers = {"Host": parts.netloc, "Accept": "image/*", "Accept-Encoding": "identity"}
        named = {} if _is_address(host) else {"sni_hostname": host}  # the certificate is that of the name
        received = bytearray()
        async with (
            httpx.AsyncClient(verify=self._certificates, timeout=self._timeout_s, trust_env=False) as client,
            client.stream("GET", target, headers=headers, extensions=named) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise RequestInvalid(
                    f"found the status {response.status_code} for an image on {host[:100]!r}, expected 200: redirects "
                    "are not followed. Fix: import tasks with the URL that gives the image itself"
                )
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > self._max_bytes:
                    raise RequestInvalid(
                        f"found an image of more than {self._max_bytes} bytes on {host[:100]!r}. "
                        "Fix: import tasks with smaller images"
                    )
        return bytes(received)

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
