"""What several endpoints answer, read into the types of the SDK."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from lensmount_client import AdapterId, AliasTrust, Backbone, UnexpectedResponse
from lensmount_client._api.read import etag_of, nothing, read_adapter_id, read_adapter_info
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response

INFO: dict[str, Any] = {
    "name": "malaria",
    "version": 2,
    "digest": "sha256:00",
    "size_bytes": 7,
    "created_at": "2026-01-02T05:04:05+02:00",
    "method": "lora",
    "labels": ["parasitized", "uninfected"],
    "backbone": {"name": "tiny", "fingerprint": "sha256:ff"},
    "aliases": {"prod": 1, "canary": 2},
    "versions": [1, 2],
    "status": "ready",
}


def fields(**changes: Any) -> JsonFields:
    return JsonFields({**INFO, **changes}, "", "r-1")


@pytest.mark.parametrize(
    ("etag", "digest"), [('"sha256:00"', "sha256:00"), ('W/"sha256:00"', "sha256:00"), ("", ""), ("sha256:00",) * 2]
)
def test_an_etag_is_the_digest_without_its_quotes(etag: str, digest: str) -> None:
    assert etag_of(Response(200, httpx.Headers({"ETag": etag}), b"")) == digest


def test_a_response_without_an_etag_has_an_empty_digest() -> None:
    assert etag_of(Response(200, {}, b"")) == ""
    assert nothing(Response(204, {}, b"")) is None


def test_an_adapter_is_read_with_its_aliases_backbone_and_time() -> None:
    info = read_adapter_info(fields())
    assert (info.name, info.labels, info.versions) == ("malaria", ("parasitized", "uninfected"), (1, 2))
    assert info.aliases == {"prod": 1, "canary": 2}
    assert info.backbone == Backbone("tiny", "sha256:ff")
    assert info.created_at == datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert info.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert info.manifest is None
    assert info.alias_trust == {}  # of a server of before them
    found = read_adapter_info(fields(alias_trust={"prod": {"accept_confidence": 0.9, "unfamiliar_percentile": None}}))
    assert found.alias_trust == {"prod": AliasTrust(accept_confidence=0.9)}
    assert read_adapter_info(fields(manifest={"method": "lora"})).manifest == {"method": "lora"}
    assert read_adapter_id(fields()) == AdapterId("malaria", 2, "sha256:00")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aliases": {"prod": "1"}}, r"aliases.prod: found '1', expected a whole number"),
        ({"backbone": {"name": "tiny"}}, "without backbone.fingerprint"),
        ({"labels": ["a", 7]}, r"labels: found \['a', 7\], expected a list of strings"),
        ({"created_at": "yesterday"}, "created_at: found 'yesterday', expected an ISO 8601 time"),
    ],
)
def test_a_wrong_field_of_an_adapter_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnexpectedResponse, match=message) as caught:
        read_adapter_info(fields(**changes))
    assert caught.value.request_id == "r-1"
