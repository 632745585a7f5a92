"""One bad adapter: it alone fails, its alias falls back, and who is told can neither misread nor wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import parse_adapter

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


@pytest.fixture(scope="module")
def poisoned(make_adapter: MakeAdapter) -> bytes:
    """An adapter with finite tensors whose scores are NaN for every image."""
    file = parse_adapter(make_adapter(3, ("a", "b")))
    tensors = {**file.tensors, "head.weight": torch.full_like(file.tensors["head.weight"], 3e38, dtype=torch.float32)}
    data: bytes = safetensors.torch.save(tensors, metadata={"lensmount": file.manifest.dump()})
    return data


@pytest.fixture
def server(make_parts: MakeParts, make_adapter: MakeAdapter, poisoned: bytes) -> Iterator[TestClient]:
    """`cells` (good), `bad` (version 1 good, version 2 poisoned, alias prod) and `alone` (poisoned)."""
    with make_parts(quarantine_after=2) as parts:
        parts.catalog.upload("cells", make_adapter(1, ("a", "b")))
        parts.catalog.upload("bad", make_adapter(2, ("a", "b")))
        parts.catalog.upload("bad", poisoned)  # before the engine starts, so that no test image is computed
        parts.catalog.upload("alone", poisoned)
        parts.catalog.aliases.set_alias("bad", "prod", 2)
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            yield client


def predict(server: TestClient, adapter: str, *images: bytes) -> Any:
    return server.post(f"/predict?adapter={adapter}", files=[("file", image) for image in images])


def test_a_bad_adapter_of_several_fails_alone_and_in_its_place(server: TestClient, make_png: MakePng) -> None:
    answer = predict(server, "cells,bad,cells@1", make_png(1), make_png(2))

    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["adapter"]["name"] for result in results] == ["cells", "bad", "cells"] * 2
    assert [result["image"]["index"] for result in results] == [0, 0, 0, 1, 1, 1]
    assert ["error" in result for result in results] == [False, True, False] * 2
    failed = results[1]
    digest = failed["adapter"]["digest"]
    assert failed["predictions"] == []
    assert (failed["error"]["status"], failed["error"]["code"]) == (503, "output_not_finite")
    assert f"bad@2 ({digest})" in failed["error"]["detail"]
    metrics = server.get("/metrics").text
    assert 'requests_total{adapter="bad",code="503"} 1.0' in metrics
    assert 'requests_total{adapter="cells",code="200"} 2.0' in metrics
    assert 'refusals_total{code="output_not_finite",status="503"} 2.0' in metrics  # one of each image


def test_a_bad_adapter_alone_keeps_its_status_and_nobody_is_told_to_wait(server: TestClient, make_png: MakePng) -> None:
    answer = server.post("/predict?adapter=bad@2", content=make_png())

    assert (answer.status_code, answer.json()["code"]) == (503, "output_not_finite")
    assert "Retry-After" not in answer.headers
    assert "retry_after_s" not in answer.json()
    assert predict(server, "bad,alone", make_png()).status_code == 503  # none of several has an answer


def test_after_two_failures_the_alias_falls_back_and_the_answer_says_so(server: TestClient, make_png: MakePng) -> None:
    for _ in range(2):
        assert server.post("/predict?adapter=bad:prod", content=make_png()).status_code == 503

    for reference in ("bad", "bad:prod"):
        answer = server.post(f"/predict?adapter={reference}", content=make_png())
        assert answer.status_code == 200
        assert answer.json()["adapter"]["version"] == 1
        assert answer.json()["fallback"] == {"asked": 2, "served": 1, "code": "adapter_quarantined"}
    first = server.post("/predict?adapter=bad@1", content=make_png()).json()
    assert first["fallback"] is None
    assert first["predictions"] == answer.json()["predictions"]


def test_a_quarantined_version_is_refused_by_its_number_and_shown_everywhere(
    server: TestClient, make_png: MakePng
) -> None:
    assert server.get("/adapters/bad").json()["status"] == "ready"
    for _ in range(2):
        server.post("/predict?adapter=bad@2", content=make_png())
    digest = server.get("/adapters/bad/versions/2").json()["digest"]

    refused = server.post("/predict?adapter=bad@2", content=make_png())

    assert (refused.status_code, refused.json()["code"]) == (503, "adapter_quarantined")
    assert f"bad@2 ({digest}) is quarantined: its scores were not finite" in refused.json()["detail"]
    assert "Retry-After" not in refused.headers
    assert server.get("/adapters/bad").json()["status"] == "quarantined"
    assert server.get("/health/ready").json()["quarantined"] == 1
    assert "lensmount_quarantined_adapters 1.0" in server.get("/metrics").text
    mixed = predict(server, "bad@2,cells", make_png())
    assert mixed.status_code == 207
    assert [result.get("error", {}).get("code") for result in mixed.json()["results"]] == ["adapter_quarantined", None]
    # `alone` has the same bytes and no version before
    assert server.post("/predict?adapter=alone", content=make_png()).json()["code"] == "adapter_quarantined"


def test_the_advice_of_a_quarantine_works(server: TestClient, make_adapter: MakeAdapter, make_png: MakePng) -> None:
    """Fix: upload a version that works, or lift it with `lensmount adapters release bad@2`."""
    for _ in range(2):
        server.post("/predict?adapter=bad@2", content=make_png())
    assert "lensmount adapters release bad@2" in server.post("/predict?adapter=bad@2", content=b"x").json()["detail"]

    released = server.post("/adapters/bad/versions/2/release")
    assert (released.status_code, released.json()["version"]) == (200, 2)
    assert server.get("/health/ready").json()["quarantined"] == 0
    again = server.post("/predict?adapter=bad", content=make_png())
    assert (again.status_code, again.json()["code"]) == (503, "output_not_finite")  # it is computed again
    assert server.post("/adapters/bad/versions/1/release").status_code == 200  # which was never quarantined
    assert server.post("/adapters/bad/versions/9/release").status_code == 404

    server.put("/adapters/bad", content=make_adapter(4, ("a", "b"))).raise_for_status()
    assert server.post("/predict?adapter=bad", content=make_png()).json()["adapter"]["version"] == 3


def test_a_damaged_file_of_one_adapter_fails_alone(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, tmp_path: Any
) -> None:
    with make_parts() as parts:
        version, _ = parts.catalog.upload("cells", make_adapter(1, ("a", "b")))
        parts.catalog.upload("tiles", make_adapter(2, ("x", "y")))
    blob = tmp_path / "blobs" / version.digest.removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")

    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        mixed = predict(client, "cells,tiles", make_png())
        alone = client.post("/predict?adapter=cells", content=make_png())

    assert mixed.status_code == 207
    assert mixed.json()["results"][0]["error"]["code"] == alone.json()["code"] == "adapter_corrupt"
    assert mixed.json()["results"][1]["predictions"]
    assert "Retry-After" not in alone.headers
    assert f"cells@1 ({version.digest})" in alone.json()["detail"]


def test_a_lost_device_fails_the_health_check(server: TestClient) -> None:
    assert server.get("/health/live").status_code == 200
    server.app.state.context.engine.lost = "the device cuda failed"  # type: ignore[attr-defined]  # it is our app

    assert (server.get("/health/live").status_code, server.get("/health/live").json()["code"]) == (503, "device_lost")
