"""People get different images to label, those that the adapter is least sure of, and never images unlike its own."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeParts, MakePng, MakeTrusted, Until

POOL = 14


@pytest.fixture
def api(shared_client: TestClient) -> TestClient:
    return shared_client


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def slides(numbers: Iterator[int]) -> str:
    """The name of a pool that no other test has."""
    return f"slides-{next(numbers)}"


@pytest.fixture
def pool(api: TestClient, slides: str, images: DrawImages) -> dict[str, bytes]:
    """The images of the pool by digest, which no other test sends."""
    return send(api, slides, list(images(seed=5 + number_of(slides), a=POOL).values()))


def number_of(slides: str) -> int:
    return int(slides.rpartition("-")[2])


def send(api: TestClient, slides: str, files: list[bytes]) -> dict[str, bytes]:
    answer = api.post(f"/datasets/{slides}/unlabelled?who=reader1", files=[("file", data) for data in files])
    return dict(zip([image["digest"] for image in answer.json()["images"]], files, strict=True))


@pytest.fixture
def ask(api: TestClient, slides: str, until: Until) -> Any:
    """`ask("reader1", n=4)` gives the answer once the adapter has computed the pool."""

    def ask(who: str, **query: Any) -> dict[str, Any]:
        answers: list[Any] = []

        def done() -> bool:
            answers.append(api.post(f"/datasets/{slides}/next", params={"who": who, "adapter": "cells", **query}))
            return bool(answers[-1].status_code != 202)

        until(done)
        document: dict[str, Any] = answers[-1].json()
        return document

    return ask


def digests_of(document: dict[str, Any]) -> list[str]:
    return [item["digest"] for item in document["items"]]


def test_the_smallest_margins_of_predict_come_first(api: TestClient, pool: dict[str, bytes], ask: Any) -> None:
    margins = {}
    for digest, data in pool.items():
        best, second = (p["score"] for p in api.post("/predict?adapter=cells", content=data).json()["predictions"])
        margins[digest] = best - second

    document = ask("reader1", n=5, strategy="margin")

    assert (document["state"], document["done"], document["total"]) == ("done", POOL, POOL)
    assert digests_of(document) == sorted(margins, key=margins.__getitem__)[:5]
    first = document["items"][0]
    best, second = (each["score"] for each in first["predictions"])
    assert best - second == pytest.approx(margins[first["digest"]], abs=1e-4)


@pytest.mark.parametrize("strategy", ["margin", "entropy", "diverse", "typical", "staged"])
def test_three_people_share_the_pool_without_an_image_in_common(
    pool: dict[str, bytes], ask: Any, strategy: str
) -> None:
    got = [
        digest for who in ("reader1", "reader2", "reader3") for digest in digests_of(ask(who, n=6, strategy=strategy))
    ]

    assert sorted(got) == sorted(pool)  # 6 + 6 + 2


def test_a_person_who_asks_again_gets_the_images_that_they_hold(pool: dict[str, bytes], ask: Any) -> None:
    first = digests_of(ask("reader1", n=3))

    assert digests_of(ask("reader1", n=3)) == [digest for digest in pool if digest in first]  # as they came
    assert digests_of(ask("reader1", n=5))[:3] == [digest for digest in pool if digest in first]


def test_a_labelled_image_is_not_proposed_again(api: TestClient, slides: str, pool: dict[str, bytes], ask: Any) -> None:
    (first,) = digests_of(ask("reader1", n=1))
    api.post(f"/datasets/{slides}/labels", json={"who": "reader1", "labels": {first: "a"}})

    assert first not in digests_of(ask("reader1", n=POOL))


def test_an_image_is_proposed_to_others_when_its_lease_is_over(pool: dict[str, bytes], ask: Any, until: Until) -> None:
    assert len(digests_of(ask("reader1", n=POOL, lease_s=1))) == POOL
    until(lambda: len(digests_of(ask("reader2", n=POOL))) == POOL)


def test_a_pool_that_is_not_there_and_a_wrong_question_are_refused(api: TestClient, ask: Any) -> None:
    assert ask("reader1")["code"] == "dataset_not_found"
    assert ask("reader1", adapter="none")["code"] == "adapter_not_found"
    assert ask("reader1", strategy="best")["code"] == "invalid_request"
    assert ask("reader1", n=0)["code"] == "invalid_request"
    assert ask("")["code"] == "invalid_request"


def test_without_scikit_learn_the_way_that_is_named_works(
    pool: dict[str, bytes], ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn", "sklearn.cluster", "sklearn.utils.extmath"):
        monkeypatch.setitem(sys.modules, name, None)

    refused = ask("reader1", n=3)
    assert refused["code"] == "store_unavailable"
    assert "or strategy=margin" in refused["detail"]

    assert len(digests_of(ask("reader1", n=3, strategy="margin"))) == 3


def test_images_unlike_those_of_the_adapter_are_left_out(
    make_parts: MakeParts, make_trusted: MakeTrusted, make_png: MakePng, until: Until
) -> None:
    files = [make_png(seed) for seed in range(4)]
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as api:
        api.put("/adapters/trusted", content=make_trusted())
        pool = send(api, "slides", files)
        expected = []
        for digest, data in pool.items():
            trust = api.post("/predict?adapter=trusted", content=data).json()["trust"]
            if trust["decision"] != "unfamiliar":
                expected.append(digest)

        def answer() -> Any:
            return api.post("/datasets/slides/next?who=reader1&adapter=trusted&n=10")

        until(lambda: answer().status_code == 200)
        document = answer().json()

    assert sorted(digests_of(document)) == sorted(expected)
    assert document["unfamiliar"] == len(files) - len(expected)
