"""If-Match and If-None-Match; test_preconditions_of_writes.py has every write."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from lensmount_client import Client

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakePng, Zip


def zipped(make_png: MakePng, first: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(first, first + 12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()


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
        client.put("/adapters/cells/aliases/prod", json={"version": 1, "protected": True}, headers=other),
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


def test_an_alias_has_a_tag_for_all_that_it_states_and_its_put_is_repeatable(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    client.put("/adapters/cells", content=make_adapter(9))
    alias = "/adapters/cells/aliases/prod"
    first = client.put(alias, json={"version": 1}, headers={"If-None-Match": "*"})
    tag = client.get(alias).headers["ETag"]
    assert first.headers["ETag"] == tag

    moved = [client.put(alias, json={"version": 2}, headers={"If-Match": tag}) for _ in range(3)]
    assert [answer.status_code for answer in moved] == [200] * 3  # the answer may have been lost
    assert len({answer.headers["ETag"] for answer in moved}) == 1
    assert client.put(alias, json={"version": 1}, headers={"If-Match": tag}).status_code == 412
    assert client.get(alias).json()["version"] == 2

    now = client.get(alias).headers["ETag"]
    guarded = [client.put(alias, json={"version": 2, "protected": True}, headers={"If-Match": now}) for _ in range(2)]
    assert [answer.status_code for answer in guarded] == [200] * 2
    assert guarded[0].headers["ETag"] == guarded[1].headers["ETag"] != now
    stale = client.put(alias, json={"version": 2, "protected": False}, headers={"If-Match": now})
    assert stale.status_code == 412  # somebody protected it meanwhile, although the version is the same
    digest = f'"{client.get(alias).json()["digest"]}"'
    assert client.put(alias, json={"version": 1}, headers={"If-Match": digest}).status_code == 200


def test_a_cancelled_job_is_cancelled_again_with_the_tag_of_before(
    client: TestClient, images: DrawImages, zipped: Zip
) -> None:
    client.put("/datasets/cells", content=zipped(images(a=6, b=6)), headers={"Content-Type": "application/zip"})
    made = client.post("/jobs", json={"dataset": "cells", "adapter": "cells"})
    path, tag = f"/jobs/{made.json()['id']}", made.headers["ETag"]
    assert client.get(path).headers["ETag"] == tag
    for _ in range(2):
        assert client.delete(path, headers={"If-Match": tag}).json()["state"] == "cancelled"
    assert client.post(f"{path}/retry", headers={"If-Match": tag}).status_code == 412


def test_a_rotated_token_is_not_revoked_by_who_saw_the_one_before(make_parts: MakeParts) -> None:
    headers = {"Authorization": "Bearer a-token-of-the-lab"}
    with (
        make_parts(token="a-token-of-the-lab") as parts,
        TestClient(parts.app, base_url="http://127.0.0.1", headers=headers) as client,
    ):
        made = client.post("/tokens", json={"name": "reader1", "scopes": ["predict"]})
        tag = client.get("/tokens/reader1").headers["ETag"]
        assert made.headers["ETag"] == tag
        assert client.post("/tokens/reader1/rotate", headers={"If-Match": tag}).status_code == 200
        assert client.delete("/tokens/reader1", headers={"If-Match": tag}).status_code == 412
        assert client.delete("/tokens/reader1", headers={"If-Match": "*"}).status_code == 204


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (', "x" , , {tag},', 201),
        ('"x,y", {tag}', 201),
        ('W/"x", {tag}', 201),
        ('"*"', 412),  # a tag of one character, not the sign for any
        (",", 400),
    ],
)
def test_a_list_of_tags_is_read_as_rfc_9110_has_it(
    client: TestClient, make_adapter: MakeAdapter, text: str, code: int
) -> None:
    tag = client.get("/adapters/cells").headers["ETag"]
    answer = client.put("/adapters/cells", content=make_adapter(9), headers={"If-Match": text.replace("{tag}", tag)})
    assert answer.status_code == code


@pytest.mark.parametrize("text", ["abc", '"a', "W/", '"a", b', "x" * 5000])
def test_a_list_of_tags_that_cannot_be_read_is_a_bad_request(
    shared_client: TestClient, make_adapter: MakeAdapter, text: str
) -> None:
    refused = shared_client.put("/adapters/cells", content=make_adapter(9), headers={"If-Match": text})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    assert shared_client.get("/adapters/cells").json()["versions"] == [1]


class Losing(httpx.BaseTransport):
    """Sends each request to the app, and loses the first answer to each write."""

    def __init__(self, server: TestClient) -> None:
        self._server = server
        self._lost: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        answer = self._server.request(
            request.method, path, content=request.read(), headers=list(request.headers.multi_items())
        )
        if request.method != "GET" and f"{request.method} {path}" not in self._lost:
            self._lost.add(f"{request.method} {path}")
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(answer.status_code, headers=list(answer.headers.items()), content=answer.content)


def test_a_retry_of_the_sdk_turns_no_success_into_a_refusal(
    client: TestClient, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    (tmp_path / "cells.safetensors").write_bytes(make_adapter(9))
    with Client("http://127.0.0.1", transport=Losing(client), sleep=lambda _: None) as sdk:
        first = sdk.adapters.get("cells").digest
        second = sdk.adapters.push(tmp_path / "cells.safetensors", if_match=first)
        assert second.version == 2
        sdk.adapters.alias("cells", "prod", 1)
        assert sdk.adapters.alias("cells", "prod", 2, if_match=first).version == 2
        sdk.adapters.unalias("cells", "prod")
        assert sdk.adapters.get("cells").aliases == {}
        sdk.adapters.delete("cells", 1, if_match=first)
        sdk.adapters.delete("cells", if_match=second.digest)
        assert [info.name for info in sdk.adapters.list()] == ["tiles"]


def test_labels_and_corrections_are_repeatable_with_the_tag_of_before(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(feedback="on") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        image = client.post("/datasets/fresh/unlabelled?who=reader1", content=make_png(1)).json()["images"][0]["digest"]
        seen = {"If-Match": client.get("/datasets/fresh/unlabelled").headers["ETag"]}

        def say(who: str, label: str, headers: dict[str, str]) -> Any:
            return client.post("/datasets/fresh/labels", json={"who": who, "labels": {image: label}}, headers=headers)

        said = [say("reader1", "a", seen) for _ in range(3)]  # the answer may have been lost
        assert [answer.status_code for answer in said] == [201] * 3
        assert said[0].json() == said[1].json() == said[2].json()
        for late in (say("reader2", "a", seen), say("reader1", "b", seen)):
            assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
        assert len(client.get("/datasets/fresh/labels").json()["labels"]) == 1
        assert say("reader1", "a", {}).status_code == 201
        assert len(client.get("/datasets/fresh/labels").json()["labels"]) == 2

        def correct(seed: int, label: str, headers: dict[str, str]) -> Any:
            asked = f"/feedback?adapter=cells&label={label}&who=reader1"
            return client.post(asked, content=make_png(seed), headers=headers)

        assert correct(2, "a", {"If-None-Match": "*"}).status_code == 201
        seen = {"If-Match": client.get("/datasets/cells-feedback/unlabelled").headers["ETag"]}
        corrected = [correct(3, "b", seen) for _ in range(3)]
        assert [answer.status_code for answer in corrected] == [201] * 3
        assert len({answer.json()["digest"] for answer in corrected}) == 1
        assert correct(3, "a", seen).status_code == correct(4, "b", seen).status_code == 412
        assert len(client.get("/datasets/cells-feedback/labels").json()["labels"]) == 2
