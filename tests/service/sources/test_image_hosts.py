"""Images are fetched from listed hosts alone, and never from an address that only this machine may reach."""

from __future__ import annotations

import pytest
from tests.image_server import image_server

from lensmount_service.errors import RequestInvalid
from lensmount_service.sources.image_hosts import ImageHosts
from lensmount_service.sources.listed_hosts import addresses_of

IMAGE = b"an image" * 100


def hosts(listed: str, *addresses: str, **limits: float) -> ImageHosts:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return ImageHosts(listed, int(limits.pop("max_bytes", 10_000)), resolve=resolve, **limits)


@pytest.mark.anyio
async def test_an_address_that_the_operator_lists_is_asked() -> None:
    with image_server({"/a.png?x=1": IMAGE}) as host:
        assert await hosts(host).fetch(f"http://{host}/a.png?x=1") == IMAGE
        assert await hosts(f"other.example, {host}").fetch(f"HTTP://{host}/a.png?x=1") == IMAGE


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://labels.example:8080/a.png",
        "http://labels.example.other.example/",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "http://2130706433/",
        "https://labels.example./a.png",
    ],
)
async def test_a_host_or_port_that_is_not_listed_is_not_asked(url: str) -> None:
    with pytest.raises(RequestInvalid, match="Fix: ask its operator to add the host to LENSMOUNT_LABELSTUDIO_HOSTS"):
        await hosts("labels.example").fetch(url)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "gopher://labels.example:80/",
        "http://reader:secret@labels.example/a.png",
        "http://labels.example:port/a.png",
        "http://labels.example:99999/",
        "http://[labels.example/",
        f"http://labels.example/{'a' * 3000}",
    ],
)
async def test_what_is_not_the_url_of_a_host_is_refused(url: str) -> None:
    with pytest.raises(RequestInvalid, match="Fix: import tasks with such URLs, or with data: URLs"):
        await hosts("labels.example").fetch(url)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["0.0.0.0"],
        ["::1"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["224.0.0.1"],
        ["8.8.8.8", "192.168.0.1"],
    ],
    ids=str,
)
async def test_a_listed_name_that_leads_to_an_address_that_is_not_public_is_refused(addresses: list[str]) -> None:
    with pytest.raises(RequestInvalid, match="Fix: ask the operator to list the address itself"):
        await hosts("labels.example", *addresses).fetch("https://labels.example/a.png")


@pytest.mark.anyio
async def test_the_names_of_this_machine_lead_to_addresses_that_are_not_public() -> None:
    assert set(await addresses_of("localhost", 80)) <= {"127.0.0.1", "::1"}


@pytest.mark.anyio
async def test_a_redirect_is_not_followed() -> None:
    with image_server({"/a.png": IMAGE}) as host:
        with pytest.raises(RequestInvalid, match="found the status 302"):
            await hosts(host).fetch(f"http://{host}/redirect?to=/a.png")


@pytest.mark.anyio
async def test_an_image_that_is_too_large_or_too_slow_or_not_there_is_refused() -> None:
    with image_server({"/a.png": IMAGE}) as host:
        with pytest.raises(RequestInvalid, match="more than 799 bytes"):
            await hosts(host, max_bytes=799).fetch(f"http://{host}/a.png")
        with pytest.raises(RequestInvalid, match=r"expected an image within 0.2 s"):
            await hosts(host, timeout_s=0.2).fetch(f"http://{host}/never")
        with pytest.raises(RequestInvalid, match="found the status 404"):
            await hosts(host).fetch(f"http://{host}/b.png")
    with pytest.raises(RequestInvalid, match="found no answer of the image host"):
        await hosts(host).fetch(f"http://{host}/a.png")  # the server has ended


@pytest.mark.anyio
async def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(RequestInvalid, match=r"found no answer of the image host 'labels.example'"):
        await hosts("labels.example").fetch("http://labels.example/a.png")
