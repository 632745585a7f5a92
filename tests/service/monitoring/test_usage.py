"""What GET /adapters/{name}/stats says: the use of an adapter by one tenant, since the server started."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.metrics import Metrics
from lensmount_service.monitoring.usage import MAX_ADAPTERS, Counted, Usage

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng, MakeTrusted


def stats(client: TestClient, adapter: str) -> dict[str, Any]:
    answer = client.get(f"/adapters/{adapter}/stats")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_adapter_that_nobody_asked_has_zeros(make_parts: MakeParts, make_trusted: MakeTrusted) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/sure", content=make_trusted()).raise_for_status()
        found = stats(client, "sure")
    assert found.pop("since") is not None
    nothing = {"requests": {}, "images": 0, "decisions": {}, "mean_ms": None, "last_used": None}
    assert found == {"name": "sure", **nothing}


def test_requests_of_predict_and_of_the_open_inference_protocol_are_counted(
    make_parts: MakeParts, make_trusted: MakeTrusted, make_png: MakePng
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/sure", content=make_trusted()).raise_for_status()
        client.post("/predict?adapter=sure", files=[("file", make_png(seed)) for seed in range(3)]).raise_for_status()
        client.post("/predict?adapter=sure@1", content=make_png()).raise_for_status()
        client.post("/predict?adapter=sure", content=b"no image")
        alone = {"Inference-Header-Content-Length": "0"}
        client.post("/v2/models/sure/infer", content=make_png(), headers=alone).raise_for_status()
        found = stats(client, "sure")

    assert found["requests"] == {"200": 3, "415": 1}
    assert found["images"] == sum(found["decisions"].values()) == 5
    assert 0 < found["mean_ms"] < 60_000
    used, since = (datetime.fromisoformat(found[key]) for key in ("last_used", "since"))
    assert timedelta() <= used - since < timedelta(minutes=10)


def test_an_adapter_that_is_not_there_has_no_statistics(shared_client: TestClient) -> None:
    answer = shared_client.get("/adapters/nothing/stats")
    assert (answer.status_code, answer.json()["code"]) == (404, "adapter_not_found")


def test_the_mean_time_is_that_of_the_requests_that_were_answered() -> None:
    counted = Counted(Metrics("1", "b", "f"), "cells")
    counted.request(200, 2, 0.5)
    counted.request(200, 1, 1.0)
    counted.request(503, 0, 30.0)
    assert (counted.use.requests, counted.use.images) == ({200: 2, 503: 1}, 3)
    assert counted.use.mean_s == pytest.approx(0.75)


def test_what_one_tenant_asks_is_not_counted_for_another() -> None:
    usage = Usage()
    usage.of("lab1", "public/cells").images += 1
    assert usage.shown("lab1", "public/cells").images == 1
    assert usage.shown("lab2", "public/cells").images == usage.shown("lab1", "cells").images == 0


def test_the_adapters_that_were_asked_least_recently_are_forgotten_first() -> None:
    usage = Usage()
    for number in range(MAX_ADAPTERS):
        usage.of("default", f"task-{number}").images += 1
    usage.of("default", "task-0")
    usage.of("default", "one-more")
    assert usage.shown("default", "task-0").images == 1
    assert usage.shown("default", "task-1").images == 0
    assert usage.shown("default", f"task-{MAX_ADAPTERS - 1}").images == 1
