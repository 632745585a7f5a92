"""Hosts that the operator lists: whether a URL may be asked for, at which address, and the request itself.

A request to a URL that a client chose can reach what only this machine may reach. So a name is resolved once, every
address that it has must be public, and the connection goes to that address. An address that the operator lists itself
may be private. Redirects are not followed here, and neither proxies nor cookies of this machine are used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import httpx

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
PORTS = {"http": 80, "https": 443}
MAX_URL = 2048  # characters

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Refused(Exception):
    """A URL that is not asked for: it is none (`url`), its host is not listed, or the host has a private `address`."""

    def __init__(self, why: Literal["url", "host", "address"], host: str = "") -> None:
        super().__init__(f"{why} {host}")
        self.why = why
        self.host = host[:100]


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class ListedHosts:
    """`async with ListedHosts("labels.example.org, 10.0.0.5:8080").get(url, 10.0) as response:`.

    `listed` are hosts, separated by commas; one without a port stands for the ports 80 and 443.
    """

    def __init__(self, listed: str, resolve: Resolve = addresses_of) -> None:
        self.listed = frozenset(host.strip().lower() for host in listed.split(",") if host.strip())
        self._resolve = resolve

    def allowed(self, url: str) -> SplitResult:
        """The parts of a URL. Raises Refused."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme)
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), None
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        if port is None or parts.scheme not in PORTS or len(url) > MAX_URL or "@" in parts.netloc:
            raise Refused("url")
        names = {f"{host}:{port}"} | ({host} if port in PORTS.values() else set())
        if self.listed.isdisjoint(names):
            raise Refused("host", f"{host}:{port}")
        return parts

    @asynccontextmanager
    async def get(self, url: str, timeout_s: float, accept: str = "*/*") -> AsyncIterator[httpx.Response]:
        """The response, whose body is not read yet. Raises Refused, OSError, httpx.HTTPError or httpx.InvalidURL."""
        parts = self.allowed(url)
        address = await self._address(parts)
        host = str(parts.hostname)
        target = httpx.URL(parts.geturl()).copy_with(host=address)
        headers = {"Host": parts.netloc, "Accept": accept, "Accept-Encoding": "identity"}
        named = {} if _is_address(host) else {"sni_hostname": host}  # the certificate is that of the name
        async with (
            httpx.AsyncClient(verify=self._certificates, timeout=timeout_s, trust_env=False) as client,
            client.stream("GET", target, headers=headers, extensions=named) as response,
        ):
            yield response

    async def _address(self, parts: SplitResult) -> str:
        """The address to connect to. Raises Refused if the host has an address that is not public."""
        host = str(parts.hostname)
        if _is_address(host):
            return host  # the operator listed it as it is
        found = await self._resolve(host, parts.port or PORTS[parts.scheme])
        for address in found:
            if not _is_public(address):
                raise Refused("address", host)
        if not found:
            raise OSError("no address")
        return found[0]

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return all(each.is_global and not each.is_multicast for each in (found, *_inside(found)))


def _inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses to which a gateway may send what is for this IPv6 address: 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
