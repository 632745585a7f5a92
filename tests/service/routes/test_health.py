from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


def test_live_and_ready_answer(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}
    assert client.get("/health/ready").json() == {"status": "ok", "backbone": "test_resnet", "quarantined": 0}


def test_ready_answers_503_once_the_engine_has_stopped(make_parts: MakeParts) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        parts.engine.stop()
        answer = client.get("/health/ready")

        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert int(answer.headers["Retry-After"]) > 0


def test_integrity_is_ok_after_switches_and_finds_one_changed_weight(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    with make_parts(fresh_backbone) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed in (1, 2):
            client.put(f"/adapters/task{seed}", content=make_adapter(seed))
            client.post(f"/predict?adapter=task{seed}", content=make_png())
        report = client.get("/integrity").json()
        assert report["ok"]
        assert report["tensors"] == len(fresh_backbone.tensors)

        fresh_backbone.tensors["layer1.0.conv1.weight"].view(-1)[0] += 1e-3
        report = client.get("/integrity").json()
        assert not report["ok"]
        assert report["changed"] == ["layer1.0.conv1.weight"]
        assert "lensmount_restore_mismatch_total 1.0" in client.get("/metrics").text


def test_limits_are_the_ones_that_apply(make_parts: MakeParts, make_adapter: MakeAdapter) -> None:
    with make_parts(max_files=3) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        limits = client.get("/limits").json()

        assert limits["max_files"] == 3
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        answer = client.post("/predict?adapter=cells", files=[("file", b"x")] * 4)
        assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")


def test_a_loop_of_checks_gets_the_result_that_is_young_and_says_how_old_it_is(
    make_parts: MakeParts, fresh_backbone: Backbone
) -> None:
    with (
        make_parts(fresh_backbone, integrity_age_s=600) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        first = client.get("/integrity").json()
        again = [client.get("/integrity").json() for _ in range(20)]

    assert first["age_s"] == 0
    assert {answer["seconds"] for answer in again} == {first["seconds"]}
    assert all(0 < answer["age_s"] < 600 for answer in again)


def test_more_results_than_the_queue_has_room_for_are_refused_for_good(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(max_queue=3) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for number in range(2):
            parts.catalog.upload(f"task-{number}", make_adapter(number))
        files = [("file", (f"{number}.png", make_png(number))) for number in range(2)]
        refused = client.post("/predict?adapter=task-0,task-1", files=files)
        advised = client.post("/predict?adapter=task-0", files=files)

    assert (refused.status_code, refused.json()["code"]) == (413, "batch_too_large")
    assert "Fix: send fewer images, or ask for fewer adapters" in refused.json()["detail"]
    assert advised.status_code == 200


@pytest.fixture
def merging_client(make_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """The app with the adapters `cells` and `tiles`, only one of which is merged in place at a time."""
    with make_parts(executor="merged") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        client.put("/adapters/tiles", content=make_adapter(2)).raise_for_status()
        yield client


def test_metrics_have_standard_names_and_one_series_per_adapter(merging_client: TestClient, make_png: MakePng) -> None:
    client = merging_client
    client.post("/predict?adapter=cells", content=make_png())
    client.post("/predict?adapter=tiles", content=make_png())
    text = client.get("/metrics").text

    for line in (
        'lensmount_requests_total{adapter="cells",code="200"} 1.0',
        'lensmount_switches_total{from_tier="memory",mode="merged"} 2.0',
        'lensmount_adapter_resident{adapter="tiles",pinned="false",tier="merged"} 1.0',
        'lensmount_adapter_resident{adapter="cells",pinned="false",tier="merged"} 0.0',
        'lensmount_inflight{adapter="cells"} 0.0',
        "lensmount_restore_mismatch_total 0.0",
        "lensmount_batch_size_count 2.0",
        "lensmount_queue_seconds_count 2.0",
        "lensmount_switch_seconds_count 2.0",
    ):
        assert line in text
    assert 'lensmount_build_info{backbone="test_resnet"' in text
    assert 'lensmount_cache_bytes{tier="memory"}' in text


def test_hot_adapters_and_how_their_images_were_computed_are_in_the_metrics(
    client: TestClient, make_png: MakePng
) -> None:
    for _ in range(3):
        client.post("/predict?adapter=cells", content=make_png())

    text = client.get("/metrics").text

    counts = dict(re.findall(r'lensmount_images_total{mode="(\w+)"} (\S+)', text))
    assert sum(map(float, counts.values())) == 3
    assert re.search(r'lensmount_cache_bytes{tier="hot"} \d', text)


def test_the_limits_say_how_the_server_computes(client: TestClient, make_parts: MakeParts) -> None:
    assert client.get("/limits").json()["engine"] == {"mode": "segments", "executor": "eager", "precision": "float32"}
