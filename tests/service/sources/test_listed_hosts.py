"""A connection goes to the address that was checked, and the certificate is that of the name."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lensmount_service.sources import listed_hosts
from lensmount_service.sources.listed_hosts import ListedHosts, Refused


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']} {self.headers['Accept']}".encode())

    def log_message(self, *_: object) -> None:
        """Write nothing to the terminal."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of adapters.example, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "adapters.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("adapters.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "adapters.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """That of a server with the certificate, on 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class Names:
    """A name server whose answers change: public when it is asked first, this machine after that."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return [self.answers[min(self.asked, len(self.answers)) - 1]]


def hosts_with(names: Names, port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ListedHosts:
    """Hosts for which 127.0.0.1 counts as public."""

    def is_public(address: str) -> bool:
        return address == "127.0.0.1" or ipaddress.ip_address(address).is_global

    monkeypatch.setattr(listed_hosts, "_is_public", is_public)
    hosts = ListedHosts(f"adapters.example:{port}, other.example:{port}", names)
    hosts.__dict__["_certificates"] = ssl.create_default_context(cafile=certificate)
    return hosts


@pytest.mark.anyio
async def test_the_name_is_resolved_once_and_its_certificate_is_checked(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names("127.0.0.1", "10.0.0.1")
    hosts = hosts_with(names, port, certificate, monkeypatch)
    async with hosts.get(f"https://adapters.example:{port}/a", 5.0, "image/*") as response:
        assert (await response.aread()).decode() == f"adapters.example:{port} image/*"
    assert names.asked == 1
    with pytest.raises(Refused) as refused:  # the second answer is not public
        async with hosts.get(f"https://adapters.example:{port}/a", 5.0):
            raise AssertionError
    assert (refused.value.why, refused.value.host) == ("address", "adapters.example")


@pytest.mark.anyio
async def test_a_certificate_of_another_name_is_refused(
    port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = hosts_with(Names("127.0.0.1"), port, certificate, monkeypatch)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        async with hosts.get(f"https://other.example:{port}/a", 5.0):
            raise AssertionError


@pytest.mark.anyio
@pytest.mark.parametrize(
    "address",
    [
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",  # NAT64 of 10.0.0.1
        "2002:a00:1::",  # 6to4 of 10.0.0.1
        "2001:0:0a00:1::",  # Teredo through 10.0.0.1
        "169.254.169.254",
        "fe80::1%eth0",
    ],
)
async def test_an_address_that_a_gateway_turns_into_a_private_one_is_not_asked(address: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [address]

    with pytest.raises(Refused, match="address"):
        async with ListedHosts("adapters.example", resolve).get("https://adapters.example/a", 5):
            pass
