"""A server with a dataset of three classes and a first draft of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeParts, Zip

EACH = 8  # images of a class


@pytest.fixture(scope="module")
def api(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def cells(api: TestClient, images: DrawImages, zipped: Zip) -> dict[str, bytes]:
    """The images of the dataset "cells", three classes, by path."""
    files = images(seed=3, a=EACH, b=EACH, c=EACH)
    assert api.put("/datasets/cells", content=zipped(files)).status_code == 201
    return files


@pytest.fixture(scope="module")
def drafted(api: TestClient, cells: dict[str, bytes]) -> Any:
    answer = api.post("/datasets/cells/draft", params={"adapter": "first"})
    assert answer.status_code == 201, answer.text
    return answer
