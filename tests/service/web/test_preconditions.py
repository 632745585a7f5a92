"""If-Match, If-None-Match, Content-Digest and Repr-Digest on every write, compared with hashlib."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng


def digest_header(data: bytes, algorithm: str = "sha-256") -> str:
    raw = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(raw).decode()}:"


def zipped(make_png: MakePng, first: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(first, first + 12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_a_body_with_another_digest_is_refused_and_nothing_is_stored(
    shared_client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, header: str, algorithm: str
) -> None:
    client, name = shared_client, f"{header}-{algorithm}".lower()
    new = make_adapter(9, name=name)
    wrong = {header: digest_header(b"other", algorithm)}
    blobs = client.app.state.context.settings.state / "blobs"  # type: ignore[attr-defined]  # it is a FastAPI
    files = {path.name for path in blobs.iterdir()}
    for refused in (
        client.put(f"/adapters/{name}", content=new, headers=wrong),
        client.post("/adapters", files={"file": new}, headers=wrong),
        client.put("/datasets/new", content=zipped(make_png), headers={"Content-Type": "application/zip", **wrong}),
        client.post("/predict?adapter=cells", content=make_png(), headers=wrong),
        client.post("/datasets/new/unlabelled?who=ann", content=make_png(), headers=wrong),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "digest_mismatch"), refused.url
    assert {path.name for path in blobs.iterdir()} == files
    assert client.get("/datasets").json() == {"datasets": []}

    right = {header: f"md5=:AAAA:, {digest_header(new, algorithm)}"}  # the unknown one is ignored
    assert client.put(f"/adapters/{name}", content=new, headers=right).status_code == 201
    assert client.post(
        "/predict?adapter=cells", content=make_png(), headers={header: digest_header(make_png())}
    ).is_success


@pytest.mark.parametrize(
    "text", ["x", "sha-256", "sha-256=abc", "sha-256=:!:", "sha-256=:YWJj:", "a" * 9000, "sha-256=:=:"]
)
def test_a_digest_that_cannot_be_read_is_a_bad_request(shared_client: TestClient, make_png: MakePng, text: str) -> None:
    refused = shared_client.post("/predict?adapter=cells", content=make_png(), headers={"Content-Digest": text})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert len(refused.content) < 4096


def test_a_write_happens_only_to_the_state_that_its_client_has_seen(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    tag = client.get("/adapters/cells").headers["ETag"]
    assert tag == f'"{client.get("/adapters/cells").json()["digest"]}"'
    other = {"If-Match": '"sha256:' + "0" * 64 + '"'}
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    before = client.get("/adapters/cells").json()
    for refused in (
        client.put("/adapters/cells", content=make_adapter(9), headers=other),
        client.put("/adapters/absent", content=make_adapter(9), headers={"If-Match": "*"}),
        client.put("/adapters/cells", content=make_adapter(9), headers={"If-None-Match": "*"}),
        client.put("/adapters/cells", content=make_adapter(9), headers={"If-None-Match": tag}),
        client.put("/adapters/cells", content=make_adapter(9), headers={"If-Match": f"W/{tag}"}),
        client.delete("/adapters/cells", headers=other),
        client.delete("/adapters/cells/versions/1", headers=other),
        client.put("/adapters/cells/aliases/prod", json={"version": 1}, headers=other),
        client.put("/adapters/cells/aliases/prod", json={"version": 1}, headers={"If-None-Match": "*"}),
        client.delete("/adapters/cells/aliases/prod", headers=other),
    ):
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed"), refused.request.headers
    after = client.get("/adapters/cells").json()
    assert {**after, "tier": before["tier"]} == before  # weights are prefetched meanwhile

    both = {"If-Match": f'"x", {tag}'}
    assert client.put("/adapters/cells", content=make_adapter(9), headers=both).status_code == 201
    again = client.put("/adapters/cells", content=make_adapter(9), headers=both)  # its answer may have been lost
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert client.put("/adapters/cells", content=make_adapter(8), headers=both).status_code == 412
    alias = client.put("/adapters/cells/aliases/prod", json={"version": 2}, headers={"If-Match": tag})
    assert alias.status_code == 200
    assert client.delete("/adapters/cells/aliases/prod", headers={"If-Match": alias.headers["ETag"]}).status_code == 204
    assert client.delete("/adapters/cells/versions/1", headers={"If-Match": tag}).status_code == 204
    assert client.put("/adapters/fresh", content=make_adapter(9), headers={"If-None-Match": "*"}).status_code == 201


def test_the_same_holds_for_datasets(client: TestClient, make_png: MakePng) -> None:
    kind = {"Content-Type": "application/zip"}
    first = client.put("/datasets/cells", content=zipped(make_png), headers={**kind, "If-None-Match": "*"})
    assert first.status_code == 201
    tag = client.get("/datasets/cells").headers["ETag"]
    other = {"If-Match": '"sha256:' + "0" * 64 + '"'}
    for refused in (
        client.put("/datasets/cells", content=zipped(make_png, 20), headers={**kind, **other}),
        client.put("/datasets/cells", content=zipped(make_png), headers={**kind, "If-None-Match": "*"}),
        client.delete("/datasets/cells", headers=other),
    ):
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert client.get("/datasets/cells").json()["version"] == 1
    replaced = client.put("/datasets/cells", content=zipped(make_png, 20), headers={**kind, "If-Match": tag})
    assert (replaced.status_code, replaced.json()["version"]) == (201, 2)
    again = client.put("/datasets/cells", content=zipped(make_png, 20), headers={**kind, "If-Match": tag})
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert client.delete("/datasets/cells", headers={"If-Match": replaced.headers["ETag"]}).status_code == 204


@pytest.mark.parametrize("text", ["abc", '"a', "W/", '"a", b', "x" * 5000])
def test_a_list_of_tags_that_cannot_be_read_is_a_bad_request(
    shared_client: TestClient, make_adapter: MakeAdapter, text: str
) -> None:
    refused = shared_client.put("/adapters/cells", content=make_adapter(9), headers={"If-Match": text})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert shared_client.get("/adapters/cells").json()["versions"] == [1]
