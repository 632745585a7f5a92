"""An inference has the identity, the scopes, the quotas, the metrics and the deadline of /predict."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

_numbers = itertools.count()


class Server:
    """`server.infer("cells", image, token=...)` is the response of a request in JSON."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.admin = {"Authorization": "Bearer first"}

    def token(self, *scopes: str, tenant: str = "default", **quotas: float) -> dict[str, str]:
        body = {"name": f"t{next(_numbers)}", "scopes": list(scopes), "tenant": tenant, "quotas": quotas}
        answer = self.client.post("/tokens", json=body, headers=self.admin)
        return {"Authorization": f"Bearer {answer.json()['secret']}"}

    def infer(self, model: str, image: bytes, headers: dict[str, str] | None = None, **more: Any) -> Any:
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(image).decode()]}
        return self.client.post(
            f"/v2/models/{model}/infer", json={"inputs": [tensor], **more}, headers=headers or self.admin
        )

    def counted(self, adapter: str, code: int) -> float:
        text = self.client.get("/metrics", headers=self.admin).text
        found = re.search(rf'lensmount_requests_total\{{adapter="{adapter}",code="{code}"\}} (\S+)', text)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def server(make_shared_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[Server]:
    with make_shared_parts(token="first", feedback="on") as parts, TestClient(parts.app) as client:
        server = Server(client)
        for name in ("cells", "tiles"):
            client.put(f"/adapters/{name}", content=make_adapter(), headers=server.admin)
        yield server


def test_only_callers_that_may_predict_are_answered(server: Server, make_png: MakePng) -> None:
    assert server.infer("cells", make_png(), server.token("predict")).status_code == 200
    for headers, status, code in [
        (server.token("train"), 403, "scope_missing"),
        ({"Authorization": "Bearer nobody"}, 401, "unauthorized"),
    ]:
        answer = server.infer("cells", make_png(), headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["error"].startswith(f"{code}: ")
    load = server.client.post("/v2/repository/models/cells/unload", headers=server.token("predict"))
    assert load.json()["error"].startswith("scope_missing: ")
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get("/v2").status_code == 401


def test_pixels_are_charged_as_for_predict_also_those_of_a_tensor(server: Server, make_png: MakePng) -> None:
    headers = server.token("predict", pixels_per_minute=10_000)
    assert server.infer("cells", make_png(0, (50, 50)), headers).status_code == 200
    zeros = np.zeros(3 * 64 * 64).tolist()
    tensor = {"name": "input", "shape": [1, 3, 64, 64], "datatype": "FP32", "data": zeros}
    answer = server.client.post("/v2/models/cells/infer", json={"inputs": [tensor]}, headers=headers)
    assert answer.status_code == 200, answer.text
    used = server.client.get("/whoami", headers=headers).json()["used"]["pixels_per_minute"]
    assert used == pytest.approx(50 * 50 + 64 * 64, rel=0.01)
    refused = server.infer("cells", make_png(0, (80, 80)), headers)
    assert refused.json()["error"].startswith("quota_exceeded: ")
    assert int(refused.headers["Retry-After"]) > 0


def test_requests_are_counted_with_their_status(server: Server, make_png: MakePng) -> None:
    before = [server.counted("tiles", code) for code in (200, 415)]
    server.infer("tiles", make_png())
    server.infer("tiles", b"no image")
    assert [server.counted("tiles", code) for code in (200, 415)] == [before[0] + 1, before[1] + 1]
    unknown = server.counted("none", 404)
    server.infer("nothing", make_png())
    assert server.counted("none", 404) == unknown + 1


def test_a_request_ends_after_its_own_time(server: Server, make_png: MakePng) -> None:
    answer = server.infer("cells", make_png(), parameters={"timeout": 1})
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")


def test_the_request_id_of_an_answer_is_enough_for_feedback(server: Server, make_png: MakePng) -> None:
    answer = server.infer("cells", make_png(5)).json()
    request_id = answer["parameters"]["request_id"]
    path = f"/feedback?adapter=cells&label=a&who=me&request_id={request_id}"
    assert server.client.post(path, headers=server.admin).status_code == 201


def test_another_tenant_reads_a_shared_adapter_by_its_public_name(server: Server, make_png: MakePng) -> None:
    assert server.client.put("/adapters/cells/shared?as=blood", headers=server.admin).status_code < 300
    headers = server.token("predict", tenant="lab1")
    for path in ("public/blood", "public/blood/versions/1"):
        answer = server.infer(path, make_png(), headers)
        assert (answer.status_code, answer.json().get("model_name")) == (200, "public/blood"), answer.text
    assert server.infer("cells", make_png(), headers).status_code == 404
    rows = server.client.post("/v2/repository/index", headers=headers).json()
    assert rows == [{"name": "public/blood", "version": "1", "state": "READY", "reason": ""}]


def test_an_answer_is_packed_only_if_the_client_takes_it(server: Server, make_png: MakePng) -> None:
    for accept, encoding in [("identity", None), ("gzip;q=0", None), ("br", None), ("gzip, deflate;q=0.5", "gzip")]:
        answer = server.infer("cells", make_png(), {**server.admin, "Accept-Encoding": accept})
        assert answer.headers.get("Content-Encoding") == encoding
        assert answer.json()["model_name"] == "cells"
