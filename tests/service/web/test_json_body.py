"""JSON bodies as hostile and mistaken clients write them: checked alone, and sent to every route that takes JSON."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import FastAPI, Request

from lensmount_service.errors import BodyTooLarge, RequestError, RequestInvalid, ServiceError
from lensmount_service.web.json_body import MAX_DEPTH, MAX_MARKS, parse_form, parse_json, read_json
from lensmount_service.web.label_schemas import GivenLabels

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

GOOD = b'{"dataset": "cells", "adapter": "malaria", "labels": [1.5, -2, 3e8, null, true, "\\ud83d\\ude00 \\\\ud800"]}'

BAD: dict[str, tuple[bytes, str]] = {
    "nothing but space": (b"   ", "bad_request"),
    "an open brace": (b"{", "bad_request"),
    "two values": (b"{}{}", "bad_request"),
    "a trailing comma": (b"[1,]", "bad_request"),
    "a comment": (b"{} // x", "bad_request"),
    "single quotes": (b"{'a': 1}", "bad_request"),
    "a name twice": (b'{"a": 1, "a": 1}', "duplicate_key"),
    "a name twice, written in two ways": (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
    "a name twice, deep inside": (b'[[{"b": {"a": 1, "c": 2, "a": 3}}]]', "duplicate_key"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "bad_request"),
    "UTF-16 with a mark": ("{}".encode("utf-16"), "bad_request"),
    "UTF-16, little end first": ('{"a": 1}'.encode("utf-16-le"), "bad_request"),
    "UTF-16, big end first": ('{"a": 1}'.encode("utf-16-be"), "bad_request"),
    "UTF-32": ('{"a": 1}'.encode("utf-32-le"), "bad_request"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "bad_request"),
    "an encoded surrogate": (b'{"a": "\xed\xa0\x80"}', "bad_request"),
    "a control character": (b'{"a": "\x01"}', "bad_request"),
    "NaN": (b'{"a": NaN}', "invalid_request"),
    "Infinity": (b"[Infinity]", "invalid_request"),
    "minus Infinity": (b"[-Infinity]", "invalid_request"),
    "a number beyond any": (b"[1e999]", "invalid_request"),
    "5,000 digits": (b"[" + b"9" * 5000 + b"]", "bad_request"),
    "5,000 digits and a fraction": (b"[" + b"9" * 5000 + b".5]", "invalid_request"),
    "half of a pair": (b'{"a": "\\ud800"}', "invalid_request"),
    "the other half of a pair": (b'["\\uDC00 x"]', "invalid_request"),
    "a pair the wrong way round": (b'["\\udc00\\ud800"]', "invalid_request"),
    "half of a pair as a name": (b'{"\\udfff": 1}', "invalid_request"),
    "one level too many": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "bad_request"),
    "900 levels": (b'{"a":' * 900 + b"1" + b"}" * 900, "bad_request"),
    "100,000 levels": (b"[" * 100_000, "bad_request"),
    "500,000 values": (b"[" + b"0," * MAX_MARKS + b"0]", "body_too_large"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_json_in_one_meaning_is_refused_with_a_way_out(case: str) -> None:
    body, code = BAD[case]

    with pytest.raises(ServiceError, match="Fix: ") as caught:
        parse_json(body)
    assert isinstance(caught.value, RequestError | RequestInvalid)
    assert caught.value.code == code
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "body", [GOOD, b" [ ] ", b'"x"', b"-0.0", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b'{"a":{"a":1}}']
)
def test_json_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


def test_2000_random_changes_of_a_body_are_read_alike_or_refused_and_nothing_else() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        body = bytearray(GOOD)
        for _ in range(draw.randint(1, 4)):
            start = draw.randrange(len(body))
            body[start : start + draw.randint(0, 3)] = draw.choice(
                [b"", b"{", b"]", b'"', b"\\", b"\\ud800", b"NaN", b",", b":", bytes([draw.randrange(256)]), b"1e999"]
            )
        try:
            value = parse_json(bytes(body))
        except ServiceError:
            continue
        assert value == json.loads(body.decode())


def request_of(body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}, receive)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b'{"a":0}', b"[[0]]"])
def test_json_of_very_many_small_values_is_refused_before_they_are_made(value: bytes) -> None:
    body = b'{"who": "reader1", "labels": [%s]}' % b",".join([value] * MAX_MARKS)

    with pytest.raises(BodyTooLarge, match="Fix: send less in one request"):
        asyncio.run(read_json(request_of(body), GivenLabels, len(body), ""))


def test_json_of_another_form_is_refused_with_the_field_and_what_to_send() -> None:
    with pytest.raises(RequestInvalid, match=r"^who: .*Fix: send this"):
        asyncio.run(read_json(request_of(b'{"who": "", "labels": {}}'), GivenLabels, 1000, "send this"))


def test_a_text_of_another_form_is_refused_with_the_field_and_what_to_send() -> None:
    assert parse_form(b'{"who": "a", "labels": {"sha256:%s": "b"}}' % (b"0" * 64), GivenLabels, "").who == "a"
    with pytest.raises(RequestInvalid, match=r"^who: .*Fix: send this"):
        parse_form(b'{"who": "", "labels": {}}', GivenLabels, "send this")
    with pytest.raises(RequestError, match="not JSON"):
        parse_form(b"{", GivenLabels, "")


def test_a_form_with_limits_of_its_own_comes_through_the_same_door() -> None:
    with pytest.raises(RequestError) as caught:
        asyncio.run(read_json(request_of(b'{"who": "a", "who": "b", "labels": {}}'), GivenLabels, 1000, ""))
    assert caught.value.code == "duplicate_key"


# On the app

PLACES = [
    ("POST", "/jobs", "bad_request"),
    ("PUT", "/adapters/cells/aliases/prod", "bad_request"),
    ("POST", "/datasets/cells/labels", "invalid_request"),
    ("PATCH", "/datasets/cells/items", "invalid_request"),
    ("POST", "/integrations/labelstudio/cells/predict", "invalid_request"),
]
"""With what each says of text that is not JSON."""


@pytest.mark.parametrize(("method", "path", "malformed"), PLACES)
def test_every_route_that_takes_json_refuses_what_is_not_json(
    shared_client: TestClient, method: str, path: str, malformed: str
) -> None:
    for case, (body, code) in BAD.items():
        answer = shared_client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        code = malformed if code == "bad_request" else code
        assert answer.json()["code"] == code, case
        assert answer.status_code == {"bad_request": 400, "duplicate_key": 400, "body_too_large": 413}.get(code, 422)
        assert len(answer.content) < 4096


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form"}])
def test_json_without_its_content_type_is_refused_and_the_advice_works(
    shared_client: TestClient, headers: dict[str, str]
) -> None:
    refused = shared_client.put("/adapters/cells/aliases/prod", content=b'{"version": 1}', headers=headers)
    advised = {"Content-Type": "application/json"}
    done = shared_client.put("/adapters/cells/aliases/prod", content=b'{"version": 1}', headers=advised)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "Fix: send the header Content-Type: application/json" in refused.json()["detail"]
    assert done.status_code == 200


@pytest.mark.parametrize("space", [b" " * 65536, b"\n" * 65536])
def test_a_body_of_400_mb_is_refused_after_the_first_of_them(shared_client: TestClient, space: bytes) -> None:
    read, answers = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += len(space)
        return {"type": "http.request", "body": space, "more_body": read < 400 * 2**20}

    async def send(message: Any) -> None:
        answers.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/jobs", "query_string": b"", "headers": headers, "state": {}}
    asyncio.run(cast(FastAPI, shared_client.app)(scope, receive, send))

    assert answers[0]["status"] == 413
    assert json.loads(answers[1]["body"])["code"] == "body_too_large"
    assert read <= shared_client.get("/limits").json()["max_json_bytes"] + 2 * len(space)
