"""Reviews and edits by both clients, against answers in the server's form."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.client.pets import make_folder
from tests.client.tiny_training import REVIEW

from lensmount_client import AsyncClient, Client, DatasetReview, InvalidInput, UnexpectedResponse
from lensmount_client._api import reviews


@pytest.fixture
def pets(server: Any, tmp_path: Path) -> str:
    with Client(server.url) as client:
        return client.datasets.push(make_folder(tmp_path)).name


def test_a_review_is_asked_for_awaited_and_read_by_both_clients(server: Any, pets: str) -> None:
    told: list[tuple[int, int | None]] = []
    with Client(server.url) as client:
        review = client.datasets.review(pets, progress=lambda done, total: told.append((done, total)))

    async def again() -> DatasetReview:
        async with AsyncClient(server.url) as client:
            return await client.datasets.review(pets, version=1)

    assert asyncio.run(again()) == review
    assert (review.name, review.version, review.images, review.flagged) == ("pets", 1, 3, 1)
    assert review.corrections() == {"cat/[b].png": "dog"}
    assert review.outliers == ("dog/c.png",)
    assert review.look_alikes[0].paths == ("cat/a.png", "dog/c.png")
    assert review.raw == REVIEW
    assert told == [(1, 3)]


def test_edits_are_sent_as_the_server_reads_them(server: Any, pets: str) -> None:
    with Client(server.url) as client:
        assert client.datasets.relabel(pets, {"cat/a.png": "dog"}).name == "pets"
        client.datasets.exclude(pets, ("cat/a.png",), version=1)
        client.datasets.edit(pets, {"cat/a.png": "dog"}, ["dog/c.png"])

    assert server.training.edits == [
        (None, {"relabel": {"cat/a.png": "dog"}, "exclude": []}),
        ("1", {"relabel": {}, "exclude": ["cat/a.png"]}),
        (None, {"relabel": {"cat/a.png": "dog"}, "exclude": ["dog/c.png"]}),
    ]


def test_one_path_in_place_of_a_list_is_refused_with_the_list(server: Any, pets: str) -> None:
    with Client(server.url) as client:
        with pytest.raises(InvalidInput, match=r"Fix: \['cat/a.png'\]"):
            client.datasets.exclude(pets, "cat/a.png")
        with pytest.raises(InvalidInput, match="not JSON"):
            client.datasets.relabel(pets, {"cat/a.png": object()})  # type: ignore[dict-item]
        client.datasets.exclude(pets, ["cat/a.png"])


def test_a_review_without_a_field_is_an_unexpected_response(server: Any, pets: str) -> None:
    broken = {key: value for key, value in REVIEW.items() if key != "flagged"}
    server.training.reviews = [{**server.training.reviews[-1], "review": broken}]

    with Client(server.url) as client, pytest.raises(UnexpectedResponse, match=r"review\.flagged"):
        client.datasets.review(pets)


def test_an_expression_for_groups_is_sent_when_a_review_is_asked_for_and_awaited() -> None:
    start, wait = reviews.start_review("pets", None, "^(p[0-9]+)"), reviews.get_review("pets", 2, "^(p[0-9]+)")

    assert (start.method, start.params) == ("POST", {"group_regex": "^(p[0-9]+)"})
    assert (wait.method, wait.params) == ("GET", {"version": 2, "group_regex": "^(p[0-9]+)"})
    assert reviews.start_review("pets", None).params == {}
