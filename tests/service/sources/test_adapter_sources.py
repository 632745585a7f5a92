"""Adapters of other servers: only from listed hosts and buckets, only these bytes, and never more than the limits."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import obstore
import obstore.store
import pytest
from tests.image_server import image_server

from lensmount_service.errors import BodyTooLarge, Forbidden, QueueFull, RequestInvalid, ServiceError, Unavailable
from lensmount_service.sources.adapter_sources import MAX_REDIRECTS, AdapterSources

DATA = b"an adapter" * 100
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
pytestmark = pytest.mark.anyio


def sources(listed: str, *addresses: str, **limits: Any) -> AdapterSources:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return AdapterSources(listed, int(limits.pop("max_bytes", 10_000)), resolve=resolve, **limits)


async def fetched(
    found: AdapterSources, url: str, digest: str = DIGEST, caller: str = "reader1", hold: Callable[[int], object] = bool
) -> bytes:
    return await found.fetch(url, digest, caller, hold)


async def refusal(found: AdapterSources, url: str, **more: Any) -> tuple[type[ServiceError], str]:
    with pytest.raises(ServiceError) as caught:
        await fetched(found, url, **more)
    return type(caught.value), caught.value.code


NOT_ALLOWED = Forbidden, "source_not_allowed"
NO_FILE = RequestInvalid, "source_unavailable"


async def test_the_bytes_of_the_digest_come_and_no_others() -> None:
    held: list[int] = []
    with image_server({"/a": DATA}) as host:
        assert await fetched(sources(host), f"http://{host}/a", hold=held.append) == DATA
        assert await refusal(sources(host), f"http://{host}/a", digest="sha256:" + "0" * 64) == (
            RequestInvalid,
            "digest_mismatch",
        )
    assert sum(held) == len(DATA)


@pytest.mark.parametrize(
    "url",
    [
        *("", "file:///etc/passwd", "ftp://adapters.example/a", "https://reader:secret@adapters.example/a"),
        *("https://other.example/a", "https://adapters.example:8443/a", "http://127.0.0.1/a", "http://[::1]/a"),
        *("hf://lab", "hf://lab/adapters", "hf:///a/b/c", "hf://lab/adapters/a.safetensors", "hf://a/b@../c"),
        *("s3://other/a", "s3://", "s3://adapters", "s3:///a", "s3://UPPER/a", f"s3://adapters/{'a' * 3000}"),
        *("gs://adapters/a", "az://adapters/a", f"https://adapters.example/{'a' * 3000}"),
    ],
)
async def test_what_is_not_listed_is_not_asked(url: str) -> None:
    assert await refusal(sources("adapters.example, s3://adapters"), url) == NOT_ALLOWED


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1"])
async def test_a_listed_name_at_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert await refusal(sources("adapters.example", address), "https://adapters.example/a") == NOT_ALLOWED


async def test_a_redirect_is_followed_to_listed_hosts_only_and_not_for_ever() -> None:
    with image_server({"/a": DATA}) as host, image_server({"/a": DATA}) as other:
        there = f"http://{host}/redirect?to=http://{other}/a"
        assert await fetched(sources(f"{host}, {other}"), there) == DATA
        assert await fetched(sources(host), f"http://{host}/redirect?to=/a") == DATA
        assert await refusal(sources(host), there) == NOT_ALLOWED
        for target in ("file:///etc/passwd", "http://169.254.169.254/a", "s3://adapters/a", "hf://a/b/c"):
            assert await refusal(sources(host), f"http://{host}/redirect?to={target}") == NOT_ALLOWED
        around = "/redirect?to=" * (MAX_REDIRECTS + 1) + "/a"
        assert await refusal(sources(host), f"http://{host}{around}") == NO_FILE


async def test_a_file_of_the_hub_is_named_by_its_repository_revision_and_path() -> None:
    files = {
        "/lab/adapters/resolve/main/cells/malaria.safetensors": DATA,
        "/lab/adapters/resolve/refs%2Fpr%2F3/a.safetensors": DATA,
    }
    with image_server(files) as host:
        hub = sources(host, hub=f"http://{host}")
        assert await fetched(hub, "hf://lab/adapters/cells/malaria.safetensors") == DATA
        assert await fetched(hub, "hf://lab/adapters@refs%2Fpr%2F3/a.safetensors") == DATA
        assert await refusal(hub, "hf://lab/adapters/missing") == NO_FILE


async def test_a_file_that_is_too_large_too_slow_or_not_there_is_refused() -> None:
    with image_server({"/a": DATA}) as host:
        assert await refusal(sources(host, max_bytes=999), f"http://{host}/a") == (BodyTooLarge, "body_too_large")
        assert await refusal(sources(host, timeout_s=0.2), f"http://{host}/never") == NO_FILE
        assert await refusal(sources(host), f"http://{host}/b") == NO_FILE
    assert await refusal(sources(host), f"http://{host}/a") == NO_FILE  # the server has ended
    assert await refusal(sources("adapters.example"), "https://adapters.example/a") == NO_FILE  # no address


async def test_full_memory_refuses_the_file() -> None:
    def full(count: int) -> None:
        raise Unavailable("no room", code="overloaded", retry_after_s=1)

    with image_server({"/a": DATA}) as host:
        assert await refusal(sources(host), f"http://{host}/a", hold=full) == (Unavailable, "overloaded")


async def test_one_caller_with_slow_sources_leaves_room_to_others() -> None:
    with image_server({"/a": DATA}) as host:
        found = sources(host, timeout_s=1.0)
        slow = [asyncio.create_task(fetched(found, f"http://{host}/never", caller="slow")) for _ in range(2)]
        await asyncio.sleep(0)
        assert await refusal(found, f"http://{host}/a", caller="slow") == (QueueFull, "queue_full")
        assert await fetched(found, f"http://{host}/a") == DATA
        more = [asyncio.create_task(fetched(found, f"http://{host}/never", caller="more")) for _ in range(2)]
        await asyncio.sleep(0)
        assert await refusal(found, f"http://{host}/a") == (QueueFull, "queue_full")
        for task in (*slow, *more):
            task.cancel()
        await asyncio.gather(*slow, *more, return_exceptions=True)
        assert await fetched(found, f"http://{host}/a", caller="slow") == DATA


async def test_an_object_of_a_listed_bucket_is_read(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.split("/")[2]
    store = obstore.store.from_url(f"s3://{bucket}", client_options={"allow_http": True})
    obstore.put(store, "lab/a.safetensors", DATA)
    found = sources(f"s3://{bucket}")
    assert await fetched(found, f"s3://{bucket}/lab/a.safetensors") == DATA
    assert await refusal(found, f"s3://{bucket}/lab/b.safetensors") == NO_FILE
    assert await refusal(sources("s3://another-bucket"), f"s3://{bucket}/lab/a.safetensors") == NOT_ALLOWED
    assert await refusal(sources("s3://no-such-bucket"), "s3://no-such-bucket/a") == NO_FILE
    small = sources(f"s3://{bucket}", max_bytes=999)
    assert await refusal(small, f"s3://{bucket}/lab/a.safetensors") == (BodyTooLarge, "body_too_large")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert await refusal(found, f"s3://{bucket}/lab/a.safetensors") == NO_FILE
