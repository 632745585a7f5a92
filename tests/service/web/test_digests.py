"""Content-Digest and Repr-Digest as RFC 9530 and RFC 8941 have them, compared with hashlib and the RFC's example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from tests.service.web.digest_headers import digest_header

from lensmount_service.errors import RequestError, RequestInvalid
from lensmount_service.web.digests import BodyDigests

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Zip

EXAMPLE = b'{"hello": "world"}\n'  # RFC 9530, 3 and appendix B
OF_EXAMPLE = {
    "sha-256": "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
    "sha-512": "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:",
}


def compared(body: bytes, *fields: str, **more: str) -> None:
    """Raises what a request with these fields Content-Digest raises for the body, which arrives in two parts."""
    headers = [(b"content-digest", each.encode()) for each in fields]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    digests = BodyDigests(Request({"type": "http", "headers": headers}))
    digests.update(body[:5])
    digests.update(body[5:])
    digests.check()


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_a_body_with_another_digest_is_refused_and_nothing_is_stored(
    shared_client: TestClient,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    images: DrawImages,
    zipped: Zip,
    header: str,
    algorithm: str,
) -> None:
    client, name = shared_client, f"{header}-{algorithm}".lower()
    new, wrong = make_adapter(9, name=name), {header: digest_header(b"other", algorithm)}
    blobs: Path = client.app.state.context.settings.state / "blobs"  # type: ignore[attr-defined]  # it is a FastAPI
    files = {path.name for path in blobs.iterdir()}
    archive, kind = zipped(images(a=6, b=6)), {"Content-Type": "application/zip"}
    for refused in (
        client.put(f"/adapters/{name}", content=new, headers=wrong),
        client.post("/adapters", files={"file": new}, headers=wrong),
        client.put("/datasets/new", content=archive, headers={**kind, **wrong}),
        client.post("/predict?adapter=cells", content=make_png(), headers=wrong),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "digest_mismatch"), refused.url
    assert {path.name for path in blobs.iterdir()} == files
    assert client.get("/datasets").json() == {"datasets": []}

    right = {header: digest_header(new, algorithm)}
    assert client.put(f"/adapters/{name}", content=new, headers=right).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        (OF_EXAMPLE["sha-256"],),
        (OF_EXAMPLE["sha-512"],),
        (f"{OF_EXAMPLE['sha-256']}, {OF_EXAMPLE['sha-512']}",),
        (OF_EXAMPLE["sha-256"], OF_EXAMPLE["sha-512"]),  # two lines of one header
        (f"md5=:AAAA:, {OF_EXAMPLE['sha-256']}",),  # what is not known is ignored if something is
        (OF_EXAMPLE["sha-256"].replace("=:", ":").replace("256:", "256=:"),),  # without padding
        (f"{OF_EXAMPLE['sha-256']};q=1; label",),
        (f"{digest_header(b'other')}, {OF_EXAMPLE['sha-256']}",),  # of two for one algorithm the last one counts
    ],
)
def test_these_headers_say_what_the_body_is(fields: tuple[str, ...]) -> None:
    compared(EXAMPLE, *fields)
    with pytest.raises(RequestInvalid, match=r"another sha-.* Fix: ") as refused:
        compared(EXAMPLE + b" ", *fields)
    assert refused.value.code == "digest_mismatch"


@pytest.mark.parametrize(
    "fields",
    [
        (f"{OF_EXAMPLE['sha-256']}, {digest_header(b'other', 'sha-512')}",),
        (f"{OF_EXAMPLE['sha-256']}, {digest_header(b'other')}",),
    ],
)
def test_of_several_digests_all_must_be_those_of_the_body(fields: tuple[str, ...]) -> None:
    with pytest.raises(RequestInvalid):
        compared(EXAMPLE, *fields)


@pytest.mark.parametrize("text", ["md5=:AAAA:", "sha-1024=:AAAA:, id-sha-256=:AAAA:"])
def test_a_header_without_a_known_algorithm_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(RequestError, match=r"expected sha-256 or sha-512\. Fix: send sha-256=:BASE64:"):
        compared(EXAMPLE, text)


@pytest.mark.parametrize(
    "text",
    ["x", "sha-256", "sha-256=abc", "sha-256=:!:", "sha-256=:YWJj:", "a" * 9000, "sha-256=:=:", "sha-256=::", ","],
)
def test_a_digest_that_cannot_be_read_is_a_bad_request(shared_client: TestClient, make_png: MakePng, text: str) -> None:
    refused = shared_client.post("/predict?adapter=cells", content=make_png(), headers={"Content-Digest": text})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert len(refused.content) < 4096


def test_a_part_of_an_upload_is_not_compared_with_the_digest_of_the_whole() -> None:
    compared(b"part", repr_digest=digest_header(b"the whole"), content_range="bytes 0-3/9")
    with pytest.raises(RequestInvalid):
        compared(b"part", repr_digest=digest_header(b"the whole"))
