"""What a client may ask of a job: each value has its range, and a request out of it queues nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import MakeParts


@pytest.fixture(scope="module")
def refusing(make_shared_parts: MakeParts) -> Iterator[TestClient]:
    """One app for all tests of refused jobs."""
    with make_shared_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        yield client


def refused(answer: Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


WRONG: dict[str, dict[str, Any]] = {
    "learning rate 0": {"learning_rate": 0},
    "a negative learning rate": {"learning_rate": -1},
    "a learning rate of 1e9": {"learning_rate": 1e9},
    "epochs 0": {"epochs": 0},
    "epochs -1": {"epochs": -1},
    "a billion epochs": {"epochs": 10**9},
    "epochs true": {"epochs": True},
    "epochs as text": {"epochs": "3"},
    "one and a half epochs": {"epochs": 1.5},
    "batch 0": {"batch_size": 0},
    "a batch of a million": {"batch_size": 10**6},
    "rank 0": {"rank": 0},
    "rank a million": {"rank": 10**6},
    "images of 100,000 pixels": {"size": 10**5},
    "seed 2^64": {"seed": 2**64},
    "seed as text": {"seed": "zero"},
    "a seed of five thousand digits": {"seed": 10**4000},
    "an unknown resize": {"resize": "zoom"},
    "an unknown field": {"optimizer": "sgd"},
    "a callable path": {"__class__": "os.system"},
    "a label that is a list": {"method": ["lora"]},
    "fractions over a half": {"test_fraction": 0.9},
    "a fraction of 1": {"validation_fraction": 0, "test_fraction": 1},
    "images of 15 pixels": {"size": 15},
    "a window of one number": {"window": [1]},
    "a window from high to low": {"window": [240, -160]},
    "a window that is text": {"window": "-160 240"},
    "513 slices": {"depth": 513},
    "training in float16": {"precision": "float16"},
    "a file of integers": {"file_dtype": "int8"},
    "prompts of another shape": {"head": "text", "prompts": {"templates": [], "classes": {}}},
    "the server's own backbone": {"backbone": "resnet34"},
    "margin 2": {"margin": 2},
    "a canary of 101 %": {"alias": "prod", "canary": 101},
    "priority 101": {"priority": 101},
    "eleven attempts": {"max_attempts": 11},
    "A drawn with a spread of 0": {"init_std": 0},
    "three orientations": {"orientations": 3},
    "an invalid regex": {"targets": "("},
    "a regex with NUL": {"group_regex": "a\u0000"},
    "a description with NUL": {"description": "a\u0000b"},
    "a lone surrogate": {"license": "\ud800"},
    "a long description": {"description": "x" * 4001},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_hyper_parameter_out_of_its_range_is_refused_before_anything_is_queued(
    refusing: TestClient, case: str
) -> None:
    body = json.dumps({"dataset": "cells", "adapter": "malaria", **WRONG[case]})
    answer = refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 422, "invalid_request")
    assert refusing.get("/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("body", ['{"rank": NaN}', '{"learning_rate": Infinity}', "[]", '"job"', "null", "{}"])
def test_a_body_of_another_shape_is_refused(refusing: TestClient, body: str) -> None:
    refused(refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 422, "invalid_request")


@pytest.mark.parametrize("body", ["{", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", b"\xff\xfe"])
def test_a_body_that_cannot_be_read_is_refused(refusing: TestClient, body: str | bytes) -> None:
    refused(refusing.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 400, "bad_request")


@pytest.mark.parametrize("field", ["adapter", "alias", "dataset"])
@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a b", "\u00e9"])
def test_an_invalid_name_is_refused(refusing: TestClient, field: str, name: str) -> None:
    answer = refusing.post("/jobs", json={"dataset": "cells", "adapter": "malaria", field: name})
    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid_name", "invalid_reference")
