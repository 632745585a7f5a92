from __future__ import annotations

import re

from fastapi.routing import APIRoute

from lensmount_service.oip.openapi import INFER_BODY
from lensmount_service.oip.rest import router


def test_every_parameter_of_a_path_is_described() -> None:
    for route in router.routes:
        assert isinstance(route, APIRoute)
        names = set(re.findall(r"\{(\w+)\}", route.path)) - {"name"}  # which FastAPI describes
        extra = route.openapi_extra or {}
        assert {each["name"] for each in extra.get("parameters", [])} == names, route.path


def test_the_example_of_a_request_has_what_the_schema_requires() -> None:
    schema = INFER_BODY["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) <= schema["example"].keys()
    tensor = schema["properties"]["inputs"]["items"]
    assert all(set(tensor["required"]) <= each.keys() for each in schema["example"]["inputs"])
