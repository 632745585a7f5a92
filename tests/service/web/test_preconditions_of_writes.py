"""Every write takes If-Match, If-None-Match, Content-Digest and Repr-Digest: one story that makes each of them once.

A write that takes no condition says why, and refuses the headers instead of ignoring them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.image_server import image_server
from tests.service.peft_file import foreign
from tests.service.web.digest_headers import digest_header

from lensmount_adapters import Backbone
from lensmount_service.access.policy import POLICY
from lensmount_service.auditing import NO_WRITES, READ_ONLY
from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakePng, Zip

WRITES = {(method, path) for method, path in POLICY if method not in READ_ONLY and path not in NO_WRITES}
PROTECTED_OTHERWISE = {  # writes that refuse the headers, and what protects them
    ("PUT", "/jobs/{job_id}/files/{name}"): "a lease",
}
REPEATABLE = {  # with the If-Match of before, because the answer may have been lost
    ("POST", "/adapters"),
    ("PUT", "/adapters/{name}/aliases/{alias}"),
    ("POST", "/datasets/{name}/unlabelled"),
    ("POST", "/datasets/{name}/labels"),
    ("POST", "/integrations/labelstudio/{adapter}/webhook"),
    ("DELETE", "/jobs/{job_id}"),
    ("DELETE", "/jobs/{job_id}/files"),
}
NEVER = '"never"'
CONFIG = (
    '<View><Image name="image" value="$image_url"/><Choices name="label" toName="image">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)
TOKEN = "a-token-of-the-lab"


@dataclass
class Write:
    """`shown_by` is the GET whose ETag If-Match takes; None: nothing is there yet, which If-None-Match takes."""

    route: tuple[str, str]
    path: str
    shown_by: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Files:
    """What the story sends."""

    adapter: Callable[[int], bytes]
    png: Callable[[int], bytes]
    zipped: bytes
    foreign: bytes
    host: str  # of a server with an adapter at /a


@pytest.fixture
def host(make_adapter: MakeAdapter) -> Iterator[str]:
    with image_server({"/a": make_adapter(3)}) as host:
        yield host


@pytest.fixture
def parts(make_parts: MakeParts, host: str) -> Iterator[Parts]:
    with make_parts(token=TOKEN, feedback="on", fetch_hosts=host) as parts:
        yield parts


@pytest.fixture
def api(parts: Parts) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(parts.app, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


@pytest.fixture
def files(
    make_adapter: MakeAdapter, make_png: MakePng, images: DrawImages, zipped: Zip, backbone: Backbone, host: str
) -> Files:
    archive, other = zipped(images(a=7, b=6)), foreign(backbone, zipped)
    return Files(lambda seed: make_adapter(seed), make_png, archive, other, host)


def of_adapters(files: Files) -> Iterator[Write]:
    octets = {"Content-Type": "application/octet-stream"}
    yield Write(("PUT", "/adapters/{name}"), "/adapters/cells", body={"content": files.adapter(1)}, headers=octets)
    form = {"files": {"file": files.adapter(2)}, "data": {"name": "cells"}}
    yield Write(("POST", "/adapters"), "/adapters", "/adapters/cells", body=form)
    imported = "/adapters/leaves/import?labels=oak,elm"
    yield Write(("POST", "/adapters/{name}/import"), imported, body={"content": files.foreign}, headers=octets)
    digest = f"sha256:{hashlib.sha256(files.adapter(3)).hexdigest()}"
    there = {"json": {"url": f"http://{files.host}/a", "digest": digest}}
    yield Write(("POST", "/adapters/{name}/fetch"), "/adapters/fetched/fetch", body=there)
    alias, version = "/adapters/cells/aliases/prod", "/adapters/cells/versions/2"
    yield Write(("PUT", "/adapters/{name}/aliases/{alias}"), alias, body={"json": {"version": 2}})
    yield Write(("PUT", "/adapters/{name}/aliases/{alias}"), alias, alias, body={"json": {"version": 1}})
    rollout = {"json": {"stable": 1, "canary": {"version": 2, "percent": 10}}}
    for end in ("promote", "rollback"):
        yield Write(("PUT", "/adapters/{name}/aliases/{alias}"), alias, alias, body=rollout)
        route = ("POST", f"/adapters/{{name}}/rollouts/{{alias}}/{end}")
        yield Write(route, f"/adapters/cells/rollouts/prod/{end}", alias)
    yield Write(("DELETE", "/adapters/{name}/aliases/{alias}"), alias, alias)
    yield Write(("PUT", "/adapters/{name}/shared"), "/adapters/cells/shared", "/adapters/cells")
    yield Write(("DELETE", "/adapters/{name}/shared"), "/adapters/cells/shared", "/adapters/cells")
    yield Write(("POST", "/adapters/{name}/versions/{version}/release"), f"{version}/release", version)
    yield Write(("DELETE", "/adapters/{name}/versions/{version}"), version, version)
    yield Write(("POST", "/adapters/{name}/versions/{version}/undelete"), f"{version}/undelete")
    model = "/v2/repository/models/{name}"
    yield Write(("POST", f"{model}/unload"), "/v2/repository/models/cells/unload", "/adapters/cells", body={"json": {}})
    yield Write(("POST", f"{model}/load"), "/v2/repository/models/cells/load", body={"json": {}})
    for verb in ("load", "unload"):
        path = f"/v1/{verb}_lora_adapter"
        yield Write(("POST", path), path, "/adapters/cells", body={"json": {"lora_name": "cells"}})
    yield Write(("DELETE", "/adapters/{name}"), "/adapters/cells", "/adapters/cells")
    yield Write(("POST", "/adapters/{name}/undelete"), "/adapters/cells/undelete")


def of_datasets(files: Files) -> Iterator[Write]:
    kind = {"Content-Type": "application/zip"}
    cells = "/datasets/cells"
    yield Write(("PUT", "/datasets/{name}"), cells, body={"content": files.zipped}, headers=kind)
    digest = f"sha256:{hashlib.sha256(files.zipped).hexdigest()}"
    again = f"/datasets/copied/uploads/{digest}"  # whose bytes the server has, except the last one
    last = {"Content-Range": f"bytes {len(files.zipped) - 1}-{len(files.zipped) - 1}/{len(files.zipped)}"}
    yield Write(("PUT", "/datasets/{name}/uploads/{digest}"), again, body={"content": files.zipped[-1:]}, headers=last)
    yield Write(("POST", "/datasets/{name}/draft"), f"{cells}/draft?adapter=first")
    yield Write(("POST", "/datasets/{name}/draft"), f"{cells}/draft?adapter=first", "/adapters/first")
    edits = {"exclude": ["a/0.png"]}
    yield Write(("PATCH", "/datasets/{name}/items"), f"{cells}/items", cells, body={"json": edits})
    yield Write(("POST", "/datasets/{name}/review"), f"{cells}/review", cells)
    yield Write(("PUT", "/datasets/{name}/shared"), f"{cells}/shared", cells)
    yield Write(("DELETE", "/datasets/{name}/shared"), f"{cells}/shared", cells)
    yield Write(("DELETE", "/datasets/{name}"), cells, cells)
    yield Write(("POST", "/datasets/{name}/undelete"), f"{cells}/undelete")


def of_pools(api: TestClient, files: Files) -> Iterator[Write]:
    png = {"Content-Type": "image/png"}
    pool, corrected = "/datasets/fresh/unlabelled", "/datasets/cells-feedback/unlabelled"
    added = ("POST", "/datasets/{name}/unlabelled")
    yield Write(added, f"{pool}?who=reader1", body={"content": files.png(100)}, headers=png)
    for seed in range(101, 108):
        yield Write(added, f"{pool}?who=reader1", pool, body={"content": files.png(seed)}, headers=png)
    asked = "/datasets/fresh/next?who=reader1&adapter=cells&strategy=margin"
    yield Write(("POST", "/datasets/{name}/next"), asked, pool)
    digests = [
        api.post(f"{pool}?who=reader1", content=files.png(seed)).json()["images"][0]["digest"]
        for seed in range(100, 108)
    ]
    said = {"who": "reader1", "labels": {digest: "ab"[index % 2] for index, digest in enumerate(digests)}}
    yield Write(("POST", "/datasets/{name}/labels"), "/datasets/fresh/labels", pool, body={"json": said})
    yield Write(("POST", "/datasets/{name}/versions"), "/datasets/fresh/versions")
    yield Write(("DELETE", "/datasets/{name}/unlabelled"), pool, pool)
    right = "/feedback?adapter=cells&label=a&who=reader1"
    yield Write(("POST", "/feedback"), right, body={"content": files.png(0)}, headers=png)
    event = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "label_config": CONFIG},
        "task": {"id": 1, "data": {"image_url": f"data:image/png;base64,{base64.b64encode(files.png(1)).decode()}"}},
        "annotation": {
            "id": 1,
            "completed_by": {"id": 1, "email": "reader1@lab.example"},
            "result": [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["a"]}}],
        },
    }
    hook = "/integrations/labelstudio/{adapter}/webhook"
    yield Write(("POST", hook), hook.format(adapter="cells"), corrected, body={"json": event})


def of_jobs(api: TestClient, parts: Parts) -> Iterator[Write]:
    wanted = {"json": {"dataset": "cells", "adapter": "cells"}}
    key = {"Idempotency-Key": "one"}
    yield Write(("POST", "/jobs"), "/jobs", body=wanted, headers=key)
    job = f"/jobs/{api.get('/jobs').json()['jobs'][0]['id']}"
    yield Write(("POST", "/jobs"), "/jobs", job, body=wanted, headers=key)
    yield Write(("DELETE", "/jobs/{job_id}"), job, job)
    yield Write(("POST", "/jobs/{job_id}/retry"), f"{job}/retry", job)
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    held = {"Lensmount-Lease": lease.token}
    yield Write(("PUT", "/jobs/{job_id}/files/{name}"), f"{job}/files/card.md", job, {"content": b"# Mine"}, held)
    parts.training.jobs.finish(lease, "failed", error=("training_failed", "no"))
    yield Write(("DELETE", "/jobs/{job_id}/files"), f"{job}/files", job)


def of_tokens() -> Iterator[Write]:
    reader1 = "/tokens/reader1"
    yield Write(("POST", "/tokens"), "/tokens", body={"json": {"name": "reader1", "scopes": ["predict"]}})
    yield Write(("POST", "/tokens/{name}/rotate"), f"{reader1}/rotate", reader1)
    yield Write(("DELETE", "/tokens/{name}"), reader1, reader1)


def story(api: TestClient, parts: Parts, files: Files) -> Iterator[Write]:
    """Each write is possible after those before it."""
    yield from of_adapters(files)
    yield from of_datasets(files)
    yield from of_pools(api, files)
    yield from of_jobs(api, parts)
    yield from of_tokens()


def make(api: TestClient, write: Write, **headers: str) -> Any:
    sent = {**write.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return api.request(write.route[0], write.path, headers=sent, **write.body)


def answer_of(response: Any) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code") if response.content else None


def test_every_write_happens_only_to_the_state_and_with_the_body_that_its_client_means(
    api: TestClient, parts: Parts, files: Files
) -> None:
    made, repeated = set(), set()
    for write in story(api, parts, files):
        made.add(write.route)
        for header in ("Content_Digest", "Repr_Digest"):
            if header == "Repr_Digest" and "Content-Range" in write.headers:
                continue  # it is that of the whole upload
            damaged = make(api, write, **{header: digest_header(b"another body")})
            assert answer_of(damaged) == (422, "digest_mismatch"), (write, damaged.text)
        refused = make(api, write, If_Match=NEVER)
        assert answer_of(refused) == (412, "precondition_failed"), (write, refused.text)
        shown = {} if write.shown_by is None else {"If_Match": api.get(write.shown_by).headers["ETag"]}
        if write.route in PROTECTED_OTHERWISE:
            assert make(api, write, **shown).status_code == 412, write
            shown = {}
        elif write.shown_by is None:
            shown = {"If_None_Match": "*"}
        else:
            taken = make(api, write, If_None_Match=shown["If_Match"])
            assert answer_of(taken) == (412, "precondition_failed"), (write, taken.text)
        done = make(api, write, **shown)
        assert done.is_success, (write, done.text)
        if write.route in REPEATABLE and "If_Match" in shown:
            again = make(api, write, **shown)
            assert again.is_success, (write, again.text)
            repeated.add(write.route)
    assert repeated == REPEATABLE
    assert made == WRITES
