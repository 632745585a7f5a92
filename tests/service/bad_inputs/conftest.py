"""What every refusal of a bad input has to be, whatever its row. A server with a dataset to train on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.build import Parts

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import DrawImages, MakeParts, Zip

MOST_BYTES = 4096

Ask = Callable[..., Any]  # ask(api, epochs=3) is the response


@pytest.fixture(scope="session")
def refused() -> Any:
    """`refused(client, answer, status, code)`: a small problem document that repeats nothing, and a live server."""

    def check(client: TestClient, answer: Response, status: int, code: str, *, secret: str = "") -> None:
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text[:500]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert len(answer.content) < MOST_BYTES
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
        assert not secret or secret not in answer.text + str(answer.headers)
        assert client.get("/health/live").status_code == 200

    return check


@pytest.fixture(scope="module")
def parts(make_shared_parts: MakeParts) -> Iterator[Parts]:
    with make_shared_parts(max_queued_jobs=50, max_job_pixels=1e9) as parts:
        yield parts


@pytest.fixture(scope="module")
def api(parts: Parts, archive: bytes) -> Iterator[TestClient]:
    """The app with the dataset `cells` of 24 images."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert client.put("/datasets/cells", content=archive).status_code == 201
        yield client


@pytest.fixture(scope="session")
def archive(images: DrawImages, zipped: Zip) -> bytes:
    return zipped(images(a=12, b=12))


@pytest.fixture
def no_jobs_left(parts: Parts) -> Iterator[None]:
    """The tests of a module share a server, and each begins without jobs."""
    yield
    with parts.training.jobs.database.write() as connection:
        for table in ("job_events", "jobs"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


@pytest.fixture(scope="session")
def ask() -> Ask:
    """`ask(api, epochs=3)` sends POST /jobs, also with values that JSON alone does not have, such as NaN."""

    def send(api: TestClient, **fields: Any) -> Any:
        body = json.dumps({"dataset": "cells", "adapter": "malaria", **fields})
        return api.post("/jobs", content=body.encode(), headers={"Content-Type": "application/json"})

    return send
