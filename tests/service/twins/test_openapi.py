from __future__ import annotations

import re

from fastapi.routing import APIRoute

from lensmount_service.twins import huggingface, sagemaker, vllm
from lensmount_service.twins.one_image import Document
from lensmount_service.twins.openapi import IMAGE_BODY, LOAD_BODY, UNLOAD_BODY
from lensmount_service.twins.vllm import LoadRequest, UnloadRequest


def test_the_described_bodies_have_the_members_that_are_read() -> None:
    for body, form in ((IMAGE_BODY, Document), (LOAD_BODY, LoadRequest), (UNLOAD_BODY, UnloadRequest)):
        schema = body["requestBody"]["content"]["application/json"]["schema"]
        read = form.model_json_schema()
        assert (schema["properties"].keys(), schema["required"]) == (read["properties"].keys(), read["required"])
    example = IMAGE_BODY["requestBody"]["content"]["application/json"]["schema"]["example"]
    assert example.keys() <= Document.model_fields.keys()


def test_every_route_that_reads_a_body_describes_it() -> None:
    routes = [route for module in (huggingface, sagemaker, vllm) for route in module.router.routes]
    for route in routes:
        assert isinstance(route, APIRoute)
        assert ("requestBody" in (route.openapi_extra or {})) == ("POST" in (route.methods or ())), route.path
        assert route.summary
        assert re.fullmatch(r"/[a-z0-9_/]*(\{adapter\})?", route.path)
