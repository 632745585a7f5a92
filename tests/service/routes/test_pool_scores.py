"""An image of a pool is computed once for each adapter: the scores of a prediction, and the features before them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_service.routes.pool_scores import PoolScores
from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages


@pytest.fixture
def digests(client: TestClient, images: DrawImages) -> list[str]:
    files = [("file", data) for data in images(a=6).values()]
    answer = client.post("/datasets/slides/unlabelled?who=reader1", files=files)
    return [image["digest"] for image in answer.json()["images"]]


@pytest.fixture
def scores(client: TestClient) -> PoolScores:
    return PoolScores(client.app.state.context)  # type: ignore[attr-defined]  # it is a FastAPI


def test_features_are_those_that_the_head_turns_into_the_scores(
    client: TestClient, scores: PoolScores, digests: list[str]
) -> None:
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    missing = asyncio.run(scores.compute(snapshot, "slides", digests, 60.0))

    assert missing == 0
    known = scores.known(snapshot, digests)
    assert list(known) == digests
    for each in known.values():
        assert each.features is not None
        logits = snapshot.adapter.head(torch.from_numpy(each.features.astype(np.float32))[None])
        np.testing.assert_allclose(each.scores, logits.softmax(1)[0].detach().numpy(), atol=2e-3)  # float16


def test_what_is_computed_is_not_computed_again(client: TestClient, scores: PoolScores, digests: list[str]) -> None:
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]
    asyncio.run(scores.compute(snapshot, "slides", digests, 60.0))
    before = scores.known(snapshot, digests)

    asyncio.run(scores.compute(snapshot, "slides", digests, 60.0))

    assert all(scores.known(snapshot, digests)[digest] is before[digest] for digest in digests)


def test_an_image_whose_file_is_damaged_is_passed_over(
    client: TestClient, scores: PoolScores, digests: list[str], tmp_path: Path
) -> None:
    (tmp_path / "pools" / digests[2].removeprefix("sha256:")).write_bytes(b"other")
    snapshot = client.app.state.context.catalog.resolve(Reference("cells"))  # type: ignore[attr-defined]

    assert asyncio.run(scores.compute(snapshot, "slides", digests, 60.0)) == 0

    assert list(scores.known(snapshot, digests)) == [*digests[:2], *digests[3:]]
