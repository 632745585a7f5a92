"""The wire types say what the routes return, and refuse what they do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from lensmount_service.web.schemas import Mask, Prediction, Predictions, Segmentation
from lensmount_service.web.trust_schemas import AliasTarget

if TYPE_CHECKING:
    from tests.service.conftest import MakePng


def test_the_share_of_a_label_is_its_area_over_the_area_of_the_image() -> None:
    masks = [Mask(label=str(area), counts=[], area=area, count=1, areas=[area]) for area in (0, 50, 200)]
    assert Segmentation(size=(10, 20), masks=masks).shares() == [0, 0.25, 1]


@pytest.mark.parametrize("version", ["1", 0, 10**9, True, 1.0])
def test_a_version_is_a_whole_number_from_1_and_nothing_that_looks_like_one(version: object) -> None:
    with pytest.raises(ValidationError):
        AliasTarget.model_validate({"version": version})
    with pytest.raises(ValidationError):
        AliasTarget.model_validate({"version": 1, "more": 1})


def test_responses_match_the_documented_schema_field_by_field(shared_client: TestClient, make_png: MakePng) -> None:
    """The route writes its JSON itself, so only this test compares it with the schema."""
    files = [("file", ("one.png", make_png(1))), ("file", ("two.png", make_png(2)))]
    one = shared_client.post("/predict?adapter=cells", content=make_png())
    several = shared_client.post("/predict?adapter=cells,tiles", files=files)

    assert one.headers["Content-Type"] == several.headers["Content-Type"] == "application/json"
    assert Prediction.model_validate_json(one.content).model_dump() == one.json()
    assert Predictions.model_validate_json(several.content).model_dump() == several.json()
    document = cast(FastAPI, shared_client.app).openapi()
    answers = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    assert {"$ref": "#/components/schemas/Prediction"} in answers["schema"]["anyOf"]
