"""A server that listens, with small adapters, and what POST /predict answers there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.service.listening import listening

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakeTrusted

Predict = Callable[[str, bytes], list[dict[str, object]]]


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts) -> Iterator[Parts]:
    with make_shared_parts(feedback="on") as parts:
        yield parts


@pytest.fixture(scope="module")
def address(parts: Parts) -> Iterator[str]:
    with listening(parts.app) as address:
        yield f"http://{address}"


@pytest.fixture(scope="module")
def api(address: str, make_adapter: MakeAdapter, make_trusted: MakeTrusted) -> Iterator[httpx.Client]:
    """With `cells` (a, b; its first version is `prod`), `tiles` (x, y, z) and `sure`, which has trust."""
    with httpx.Client(base_url=address) as client:
        files = {"cells": make_adapter(1), "tiles": make_adapter(2, ("x", "y", "z")), "sure": make_trusted()}
        for name, data in files.items():
            assert client.put(f"/adapters/{name}", content=data).status_code == 201
        assert client.put("/adapters/cells", content=make_adapter(3)).status_code == 201
        assert client.put("/adapters/cells/aliases/prod", json={"version": 1}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def predicted(api: httpx.Client) -> Predict:
    """`predicted("cells@1", image)`: the labels and scores of POST /predict, best first."""

    def predict(adapter: str, image: bytes) -> list[dict[str, object]]:
        answer = api.post("/predict", params={"adapter": adapter}, content=image)
        assert answer.status_code == 200, answer.text
        labels: list[dict[str, object]] = answer.json()["predictions"]
        return labels

    return predict
