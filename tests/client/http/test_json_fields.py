"""What is wrong with a JSON response is said with the path of the field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.client.answers import answering, good, mocked

from lensmount_client import UnexpectedResponse
from lensmount_client._http.json_fields import JsonFields


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": None}, "adapter: found None, expected an object"),
        ({"adapter": {"name": "malaria", "version": "3"}}, "adapter.version: found '3', expected a whole number"),
        ({"adapter": {"name": "malaria", "version": True}}, "adapter.version: found True"),
        ({"adapter": {"name": "malaria", "version": 3}}, "without adapter.digest"),
        ({"predictions": []}, r"without predictions\[0\]"),
        ({"predictions": {}}, "predictions: found {}, expected a list"),
        ({"predictions": [{"label": 1, "score": 0.1}]}, r"predictions\[0\].label"),
        ({"predictions": [{"label": "x", "score": "high"}]}, r"predictions\[0\].score"),
        ({"timing_ms": {"total": None}}, "timing_ms.total"),
        ({"predictions": [{"label": "x", "score": 10**400}]}, r"predictions\[0\].score"),
        ({"request_id": 7}, "request_id: found 7"),
    ],
)
def test_a_wrong_field_of_a_response_is_named_by_its_path(changes: dict[str, Any], message: str) -> None:
    handle, _ = answering(good(**changes))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse, match=message):
        client.predict(b"pixels", adapter="malaria")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b"null", b"\xff", b"[" * 9999, b'{"a": 1e999}'])
def test_an_html_page_instead_of_a_prediction_is_a_typed_error(body: bytes) -> None:
    handle, _ = answering(httpx.Response(200, content=body, headers={"X-Request-Id": "r-7"}))
    with mocked(handle) as client, pytest.raises(UnexpectedResponse) as caught:
        client.predict(b"pixels", adapter="malaria")
    assert caught.value.request_id == "r-7"


def test_optional_fields_may_be_missing_or_null_and_are_checked_otherwise() -> None:
    fields = JsonFields({"a": None, "b": 1.5, "c": {"d": "x"}}, "job", "r-1")
    assert [fields.string_or_none("a"), fields.integer_or_none("none"), fields.child_or_none("a")] == [None] * 3
    assert fields.number_or_none("b") == 1.5
    child = fields.child_or_none("c")
    assert child is not None
    assert child.string("d") == "x"
    with pytest.raises(UnexpectedResponse, match=r"^job\.c\.d: found 'x', expected a whole number$") as caught:
        child.integer_or_none("d")
    assert caught.value.request_id == "r-1"


def test_a_time_without_a_zone_is_utc() -> None:
    fields = JsonFields({"zone": "2026-01-02T03:04:05+01:00", "none": "2026-01-02T03:04:05"}, "", None)
    assert fields.time("none") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert fields.time("zone") == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(UnexpectedResponse, match=r"^a: found 'x{56}\.\.\., expected a number$"):
        JsonFields({"a": "x" * 1000}, "", None).number("a")
