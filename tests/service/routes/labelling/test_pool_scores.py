"""An image of a pool is computed once for each adapter: the scores of a prediction, and the features before them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_adapters.trust.judge import Overrides
from lensmount_service.access.identity import LOOPBACK
from lensmount_service.errors import NotFound, Unavailable
from lensmount_service.pools.pools import Pools
from lensmount_service.routes.labelling import pool_scores
from lensmount_service.routes.labelling.pool_scores import PoolScores
from lensmount_service.store.references import Reference
from lensmount_service.tenants.queues import CallerQueues

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakePng, MakeTrusted


@pytest.fixture
def client(shared_client: TestClient) -> TestClient:
    return shared_client


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def pool(numbers: Iterator[int]) -> str:
    """The name of a pool that no other test has."""
    return f"slides-{next(numbers)}"


@pytest.fixture
def send(client: TestClient, pool: str, images: DrawImages) -> Callable[..., list[str]]:
    """`send(more)`: the digests of six images, which no other test sends, and of these."""

    def post(*more: bytes) -> list[str]:
        six = images(seed=int(pool.rpartition("-")[2]), a=6)
        files = [("file", data) for data in (*six.values(), *more)]
        answer = client.post(f"/datasets/{pool}/unlabelled?who=reader1", files=files)
        return [image["digest"] for image in answer.json()["images"]]

    return post


@pytest.fixture
def digests(send: Callable[..., list[str]]) -> list[str]:
    return send()


@pytest.fixture
def kept(client: TestClient) -> Path:
    """The folder of the images of pools."""
    state: Path = client.app.state.context.settings.state  # type: ignore[attr-defined]  # it is a FastAPI
    return state / "pools"


def queues_of(client: TestClient) -> CallerQueues:
    queues: CallerQueues = client.app.state.context.seen_by(LOOPBACK).queues  # type: ignore[attr-defined]  # as below
    return queues


@pytest.fixture
def scores(client: TestClient) -> PoolScores:
    return PoolScores(client.app.state.context)  # type: ignore[attr-defined]  # it is a FastAPI


def test_features_are_those_that_the_head_turns_into_the_scores(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str]
) -> None:
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    missing = asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))

    assert missing == 0
    known = scores.known(snapshot, digests)
    assert list(known) == digests
    for each in known.values():
        assert each.features is not None
        logits = snapshot.adapter.head(torch.from_numpy(each.features.astype(np.float32))[None])
        np.testing.assert_allclose(each.scores, logits.softmax(1)[0].detach().numpy(), atol=2e-3)  # float16


def test_what_is_computed_is_not_computed_again(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str]
) -> None:
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))
    before = scores.known(snapshot, digests)

    asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))

    assert all(scores.known(snapshot, digests)[digest] is before[digest] for digest in digests)


def test_an_image_whose_file_is_damaged_is_passed_over(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str], kept: Path
) -> None:
    (kept / digests[2].removeprefix("sha256:")).write_bytes(b"other")
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]

    assert asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0)) == 0

    assert list(scores.known(snapshot, digests)) == [*digests[:2], *digests[3:]]


def test_a_damaged_image_is_computed_once_it_was_sent_again_and_others_came(
    client: TestClient,
    scores: PoolScores,
    pool: str,
    digests: list[str],
    send: Callable[..., list[str]],
    kept: Path,
    make_png: MakePng,
) -> None:
    (kept / digests[2].removeprefix("sha256:")).unlink()
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))

    sent = send(make_png(77))
    asyncio.run(scores.compute(queues_of(client), snapshot, pool, sent, 60.0))

    assert len(scores.known(snapshot, sent)) == 7


def test_a_database_that_is_busy_for_a_moment_makes_no_image_unreadable(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> bytes:
        raise Unavailable("the database cannot be used now", code="store_unavailable", retry_after_s=1)

    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(Pools, "read", busy)
        with pytest.raises(Unavailable, match="cannot be used now"):
            asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))

    assert asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0)) == 0
    assert list(scores.known(snapshot, digests)) == digests


def test_images_of_a_pool_that_was_deleted_meanwhile_are_computed_when_they_come_again(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str], send: Callable[..., list[str]]
) -> None:
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    client.delete(f"/datasets/{pool}/unlabelled")
    with pytest.raises(NotFound):
        asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0))

    send()

    assert asyncio.run(scores.compute(queues_of(client), snapshot, pool, digests, 60.0)) == 0
    assert list(scores.known(snapshot, digests)) == digests


def test_an_alias_has_answers_by_its_own_thresholds(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str], make_trusted: MakeTrusted
) -> None:
    assert client.put("/adapters/trusted", content=make_trusted()).status_code == 201
    snapshot = client.app.state.context.catalog.resolve(Reference("trusted"))  # type: ignore[attr-defined]
    strict = dataclasses.replace(
        snapshot, version=dataclasses.replace(snapshot.version, thresholds=Overrides(unfamiliar_percentile=1e-9))
    )
    lax = dataclasses.replace(
        snapshot, version=dataclasses.replace(snapshot.version, thresholds=Overrides(unfamiliar_percentile=100.0))
    )
    for each in (lax, strict):
        asyncio.run(scores.compute(queues_of(client), each, pool, digests, 60.0))

    unfamiliar = [sum(each.unfamiliar for each in scores.known(by, digests).values()) for by in (lax, strict)]
    assert unfamiliar[0] < unfamiliar[1]


def test_no_more_images_are_kept_than_the_limit_and_those_used_last_stay(
    client: TestClient, scores: PoolScores, pool: str, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_scores, "KEPT", 4)
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    for some in (digests[:4], digests[:1], digests[4:]):
        asyncio.run(scores.compute(queues_of(client), snapshot, pool, some, 60.0))

    assert list(scores.known(snapshot, digests)) == [digests[0], *digests[3:]]
