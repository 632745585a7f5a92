"""A server that listens, with small adapters as models, and what POST /predict answers there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.service.listening import Listen, listening

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakeTrusted


@pytest.fixture(scope="session")
def listen() -> Listen:
    """`with listen(app) as address: ...`"""
    return listening


@dataclass(frozen=True)
class Served:
    """A server with `cells` (a, b; its first version is `prod`), `tiles` (x, y, z) and `sure`, which has trust."""

    address: str
    parts: Parts
    http: httpx.Client

    def predict(self, adapter: str, *images: bytes) -> list[dict[str, float]]:
        """The scores of POST /predict, by label, for each image."""
        if len(images) == 1:
            answer = self.http.post(f"/predict?adapter={adapter}", content=images[0])
        else:
            answer = self.http.post(f"/predict?adapter={adapter}", files=[("file", image) for image in images])
        assert answer.status_code == 200, answer.text
        document = answer.json()
        return [
            {each["label"]: each["score"] for each in result["predictions"]}
            for result in document.get("results", [document])
        ]


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts, make_adapter: MakeAdapter, make_trusted: MakeTrusted) -> Iterator[Served]:
    files = {"cells": make_adapter(1, ("a", "b")), "tiles": make_adapter(2, ("x", "y", "z")), "sure": make_trusted()}
    with make_shared_parts() as parts, listening(parts.app) as address:
        with httpx.Client(base_url=f"http://{address}") as http:
            for name, data in files.items():
                assert http.put(f"/adapters/{name}", content=data).status_code == 201
            assert http.put("/adapters/cells", content=make_adapter(3, ("a", "b"))).status_code == 201
            assert http.put("/adapters/cells/aliases/prod", json={"version": 1}).status_code == 200
            yield Served(address, parts, http)
