"""Jobs over HTTP: an app with a dataset to train on, and what a client and a worker do first."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.jobs.records import Lease

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng

# The types of the fixtures that are functions

Claim = Callable[[Parts], Lease]
Submit = Callable[..., Any]


@pytest.fixture
def archive(make_png: MakePng) -> bytes:
    """The bytes of a zip file of class folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(12):
            file.writestr(f"{'ab'[number % 2]}/{number}.png", make_png(number))
    return buffer.getvalue()


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts() as parts:
        yield parts


@pytest.fixture
def api(parts: Parts, archive: bytes) -> Iterator[TestClient]:
    """The app with the dataset `cells`."""
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert (
            client.put("/datasets/cells", content=archive, headers={"Content-Type": "application/zip"}).status_code
            == 201
        )
        yield client


@pytest.fixture
def lease(parts: Parts, api: TestClient, submit: Submit, claim: Claim) -> Lease:
    """The lease of a claimed job for the adapter `malaria`."""
    submit(api)
    return claim(parts)


@pytest.fixture
def claim() -> Claim:
    """`claim(parts)` is the lease of the next job, as a worker gets it."""

    def claimed(parts: Parts) -> Lease:
        lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
        assert lease is not None
        return lease

    return claimed


@pytest.fixture
def submit() -> Submit:
    """`submit(api, epochs=3)` is the new job, for the adapter `malaria` unless a field says otherwise."""

    def submitted(api: TestClient, **fields: Any) -> Any:
        answer = api.post("/jobs", json={"dataset": "cells", "adapter": "malaria", **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return submitted
