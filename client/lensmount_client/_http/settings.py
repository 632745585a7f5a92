"""The address of the server and how to talk to it, checked once."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from lensmount_client._errors import InsecureTransport, InvalidSettings
from lensmount_client._version import __version__

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_MAX_RESPONSE_BYTES = 512 * 2**20
MAX_PREDICTION_TIMEOUT_S = 600.0  # the server's limit
MAX_CONNECTIONS = 256  # of one client; a thread beyond that waits for one that is free


@dataclass(frozen=True)
class Timeout:
    """`Client(timeout=Timeout(read_s=120))`, or one number for all three: `Client(timeout=30)`.

    `read_s` is the longest silence of the server, so it must be longer than the slowest prediction. A value other
    than the default is sent with each prediction: the server then works on it for as long as the client waits.
    """

    connect_s: float = 5.0
    read_s: float = 60.0
    write_s: float = 60.0


@dataclass(frozen=True)
class Settings:
    """`Settings.resolve("http://127.0.0.1:8000", token=None)`."""

    base_url: str
    token: str | None = field(repr=False)
    timeout: Timeout
    max_response_bytes: int

    @classmethod
    def resolve(
        cls,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: Timeout | float = Timeout(),
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        insecure: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Arguments first, then LENSMOUNT_URL and LENSMOUNT_TOKEN, then the defaults.

        Raises InvalidSettings, or InsecureTransport for a token over http:// to another machine.
        """
        url = _checked_url(base_url or environ.get("LENSMOUNT_URL") or DEFAULT_URL)
        token = _checked_token(token or environ.get("LENSMOUNT_TOKEN") or None)
        if token and url.scheme == "http" and not is_loopback(url.host) and not insecure:
            raise InsecureTransport(
                f"the token would travel unencrypted to {url.host}. "
                "Fix: use https://, or insecure=True (--insecure) on a network you trust"
            )
        if not isinstance(timeout, Timeout):
            timeout = Timeout(timeout, timeout, timeout)
        if not min(timeout.connect_s, timeout.read_s, timeout.write_s) > 0:
            raise InvalidSettings(f"timeout: found {timeout}, expected seconds above 0")
        return cls(str(url), token, timeout, max_response_bytes)

    def httpx_options(self) -> dict[str, Any]:
        """Arguments for httpx.Client and httpx.AsyncClient."""
        url = httpx.URL(self.base_url)
        local = is_loopback(url.host)
        headers = {"User-Agent": f"lensmount-client/{__version__}", "Accept-Encoding": "identity"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return {
            "base_url": self.base_url,
            "headers": headers,
            "timeout": self.httpx_timeout(),
            "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=64),
            # httpx reads all authorities' certificates for every client, which takes 30 ms. Here TLS cannot occur, and
            # a context without certificates trusts nobody.
            "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if local and url.scheme == "http" else True,
            "follow_redirects": False,  # a redirect would send the image and the token to another server
            "trust_env": not local,  # no proxy for this machine itself
        }

    @property
    def prediction_timeout_s(self) -> float | None:
        """The timeout that a prediction asks the server for. None, if the user set none: the server decides."""
        read_s = self.timeout.read_s
        return None if read_s == Timeout.read_s else min(read_s, MAX_PREDICTION_TIMEOUT_S)

    def httpx_timeout(self, read_s: float | None = None) -> httpx.Timeout:
        """The timeout of one request. `read_s` replaces the usual limit on the server's silence."""
        usual = self.timeout
        return httpx.Timeout(None, connect=usual.connect_s, read=read_s or usual.read_s, write=usual.write_s)


def is_loopback(host: str) -> bool:
    """True if the host name or address is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(_with_scheme(text.strip()))
    except httpx.InvalidURL as error:
        raise InvalidSettings(f"base_url: {text!r} is not a URL ({error})") from error
    if url.scheme not in ("http", "https") or not re.fullmatch(rb"[\w.:-]+", url.raw_host):
        raise InvalidSettings(f"base_url: found {text!r}, expected http://host:port, https://host or host:port")
    if url.userinfo:
        raise InvalidSettings("base_url: found a user name or password in it, expected neither. Fix: pass token=...")
    if url.query or url.fragment:
        raise InvalidSettings(f"base_url: found {text!r}, expected no query and no fragment")
    return url


def _with_scheme(text: str) -> str:
    """ "gpu-box:8000" as "http://gpu-box:8000", "::1" as "http://[::1]"."""
    if "://" in text:
        return text
    try:
        return f"http://[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return f"http://{text}"


def _checked_token(token: str | None) -> str | None:
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InvalidSettings("token: expected visible ASCII characters only (a stray space or line break?)")
    return token
