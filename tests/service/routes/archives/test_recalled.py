"""Requests that start at what the trunk gave before: off unless asked for, within a bound, with the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, MakeAdapter, MakeParts, MakePng


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts) -> Iterator[Parts]:
    with make_shared_parts(executor="eager", trunk_cache_bytes=2**20) as parts:
        yield parts


@pytest.fixture(scope="module")
def api(parts: Parts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for number, name in enumerate(("cells", "tiles"), start=1):
            client.put(f"/adapters/{name}", content=make_adapter(number, ("a", "b")))
        yield client


def looks(client: TestClient) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = next(family for family in families if family.name == "lensmount_trunk_outputs").samples
    return {(s.labels["tier"], s.labels["outcome"]): s.value for s in samples if s.name.endswith("_total")}


def test_a_repeated_image_costs_its_branch_alone_and_gets_the_same_answer(
    parts: Parts, api: TestClient, make_png: MakePng, same_scores: CompareAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [api.post(f"/predict?adapter={name}", content=make_png(n)).json() for n, name in enumerate(("cells",) * 3)]
    before = looks(api).get(("memory", "hit"), 0)

    def never(*_: Any) -> Any:
        raise AssertionError("an image was decoded that is kept")

    monkeypatch.setattr("lensmount_service.routes.decoding.prepare_small", never)
    for number in range(3):
        again = api.post("/predict?adapter=cells", content=make_png(number))
        assert again.status_code == 200
        assert same_scores(again.json(), first[number])
        assert api.post("/predict?adapter=tiles,cells", content=make_png(number)).status_code == 200
    assert looks(api)["memory", "hit"] >= before + 6
    assert 0 < parts.app.state.context.outputs.memory.nbytes <= 2**20


def test_kept_and_new_images_in_one_request_are_answered_in_order(api: TestClient, make_png: MakePng) -> None:
    api.post("/predict?adapter=cells", content=make_png(11))
    files = [("file", (f"{number}.png", make_png(number))) for number in (10, 11, 12)]
    results = api.post("/predict?adapter=cells,tiles", files=files).json()["results"]
    assert [(each["image"]["index"], each["image"]["name"], each["adapter"]["name"]) for each in results] == [
        (index, f"{10 + index}.png", name) for index in range(3) for name in ("cells", "tiles")
    ]
    for each in results:
        alone = api.post(f"/predict?adapter={each['adapter']['name']}", content=make_png(10 + each["image"]["index"]))
        assert {p["label"]: p["score"] for p in alone.json()["predictions"]} == pytest.approx(
            {p["label"]: p["score"] for p in each["predictions"]}, abs=1e-5
        )


def test_it_is_off_by_default(client: TestClient, make_png: MakePng) -> None:
    for _ in range(2):
        assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200
    assert looks(client) == {}
