"""Multipart bodies, heads of requests and JSON that nobody sends by accident: each row has its status and code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.service.conftest import MakePng

PREDICT = "/predict?adapter=cells"
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
FILE = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def part(head: bytes, data: bytes = b"x") -> bytes:
    return b"--B\r\n" + head + data + b"\r\n"


BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "MP-01 no boundary": (b"x", {"Content-Type": "multipart/form-data"}, 400, "multipart_malformed"),
    "MP-02 no part": (b"--B--\r\n", FORM, 422, "missing_part"),
    "MP-03 cut short": (part(FILE)[:-3], FORM, 400, "multipart_truncated"),
    "MP-04 garbage": (b"\x00\xff" * 99, FORM, 400, "multipart_malformed"),
    "MP-05 a part without a name": (
        part(b'Content-Disposition: form-data; filename="a"\r\n\r\n') + b"--B--\r\n",
        FORM,
        400,
        "multipart_malformed",
    ),
    "MP-06 a file as a field": (
        part(b'Content-Disposition: form-data; name="file"\r\n\r\n') + b"--B--\r\n",
        FORM,
        422,
        "expected_file",
    ),
    "MP-08 1,002 fields": (
        b"".join(part(f'Content-Disposition: form-data; name="f{n}"\r\n\r\n'.encode()) for n in range(1002))
        + b"--B--\r\n",
        FORM,
        413,
        "batch_too_large",
    ),
    "MP-10 a boundary of 10,000 bytes": (
        b"x",
        {"Content-Type": "multipart/form-data; boundary=" + "B" * 10_000},
        400,
        "multipart_malformed",
    ),
    "MP-13 an unknown charset": (
        part(b'Content-Disposition: form-data; name="x"\r\nContent-Type: text/plain; charset=klingon\r\n\r\n')
        + b"--B--\r\n",
        {"Content-Type": "multipart/form-data; boundary=B; charset=klingon"},
        422,
        "missing_part",
    ),
    "MP-15 a gzip body": (b"x", {"Content-Encoding": "gzip"}, 415, "unsupported_content_encoding"),
}


@pytest.mark.parametrize("row", BODIES)
def test_a_bad_body_is_refused_with_its_code(shared_client: TestClient, refused: Any, row: str) -> None:
    body, headers, status, code = BODIES[row]

    refused(shared_client, shared_client.post(PREDICT, content=body, headers=headers), status, code)


def test_mp_07_two_adapters_in_one_form_are_refused(shared_client: TestClient, refused: Any) -> None:
    answer = shared_client.post("/adapters", files=[("file", b"a"), ("file", b"b")])

    refused(shared_client, answer, 413, "batch_too_large")


def test_mp_09_a_field_of_2_mb_is_refused(shared_client: TestClient, refused: Any) -> None:
    answer = shared_client.post("/adapters", files={"file": b"a"}, data={"name": "a" * 2**21})

    assert answer.status_code in (400, 413)
    refused(shared_client, answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("filler", [b"\r\n" * 2_500_000, b"\n" * 5_000_000], ids=["CR LF", "LF"])
def test_mp_11_5_mb_around_the_parts_take_no_time(shared_client: TestClient, filler: bytes, make_png: MakePng) -> None:
    whole = part(FILE, make_png()) + b"--B--\r\n"
    for body in (filler + whole, whole + filler):
        answer = shared_client.post(PREDICT, content=body, headers=FORM)
        assert answer.status_code in (200, 400, 413)


def test_mp_12_a_part_of_10_000_headers_is_refused(shared_client: TestClient, refused: Any) -> None:
    heads = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    answer = shared_client.post(PREDICT, content=part(heads + FILE) + b"--B--\r\n", headers=FORM)

    assert answer.status_code in (400, 413)
    refused(shared_client, answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "a%00b", "a" * 1000, "a\u202eb"])
def test_mp_14_a_file_name_is_only_ever_given_back_as_json(
    shared_client: TestClient, make_png: MakePng, name: str
) -> None:
    answer = shared_client.post(PREDICT, files=[("file", (name, make_png())), ("file", ("b", make_png()))])

    assert answer.status_code == 200
    assert name not in str(answer.headers)
    assert [result["image"]["index"] for result in answer.json()["results"]] == [0, 1]


HEADS: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "HDR-01 a header of 100 kB": ("GET", "/limits", {"X-Long": "a" * 100_000}, 431, "headers_too_large"),
    "HDR-03 a path of 100 kB": ("GET", "/adapters/" + "a" * 60_000, {}, 414, "uri_too_long"),
    "HDR-08 an unknown method": ("BREW", "/adapters/cells", {}, 405, "method_not_allowed"),
    "HDR-08 another method": ("PATCH", "/predict", {}, 405, "method_not_allowed"),
    "HDR-09 a NUL in a path": ("GET", "/adapters/%00", {}, 404, "adapter_not_found"),
    "HDR-09 bytes that are not text": ("GET", "/adapters/%ff", {}, 404, "adapter_not_found"),
    "HDR-09 dots": ("GET", "/adapters/..%2f..%2fetc", {}, 404, "not_found"),
    "HDR-11 another kind of answer": ("GET", "/adapters/nope", {"Accept": "image/gif"}, 404, "adapter_not_found"),
    "T19 another Host": ("GET", "/limits", {"Host": "evil.example"}, 421, "host_not_allowed"),
    "T19 another Origin": ("POST", PREDICT, {"Origin": "https://evil.example"}, 403, "origin_not_allowed"),
}


@pytest.mark.parametrize("row", HEADS)
def test_a_bad_head_is_refused_with_its_code(shared_client: TestClient, refused: Any, row: str) -> None:
    method, path, headers, status, code = HEADS[row]

    refused(shared_client, shared_client.request(method, path, headers=headers), status, code)


@pytest.mark.parametrize("value", ["", "Basic YTpi", "Bearer", "Bearer x y", "a" * 9000])
def test_hdr_10_no_wrong_token_is_taken(make_parts: Any, refused: Any, value: str) -> None:
    with (
        make_parts(token="right-token-0123456789") as parts,
        TestClient(parts.app, base_url="http://127.0.0.1", headers={"Authorization": value}) as client,
    ):
        refused(client, client.get("/adapters"), 401, "unauthorized", secret="right-token")


def test_hdr_12_a_range_of_10_000_parts_is_ignored(shared_client: TestClient) -> None:
    whole = shared_client.get("/adapters/cells/file").content
    ranges = "bytes=" + ",".join(["0-1"] * 2000)

    assert shared_client.get("/adapters/cells/file", headers={"Range": ranges}).content == whole


@pytest.mark.parametrize("key", [b"a" * 10_000, "caf\u00e9".encode(), b"a b", b"\x7f"])
def test_hdr_13_an_idempotency_key_is_short_and_ascii(shared_client: TestClient, refused: Any, key: bytes) -> None:
    body = b'{"dataset": "cells", "adapter": "malaria"}'
    headers: Any = {"Content-Type": "application/json", "Idempotency-Key": key}

    refused(shared_client, shared_client.post("/jobs", content=body, headers=headers), 422, "invalid_request")


@pytest.mark.parametrize("value", ["a" * 8000, "a\tb", "\x7f"])
def test_hdr_14_the_servers_own_request_id_is_used(shared_client: TestClient, value: str) -> None:
    answer = shared_client.get("/limits", headers={"X-Request-Id": value})

    assert len(answer.headers["X-Request-Id"]) == 32


ALIAS = "/adapters/cells/aliases/prod"
JSON = {"Content-Type": "application/json"}
TEXTS: dict[str, tuple[bytes, int, str]] = {
    "JSN-01 nothing": (b"", 422, "invalid_request"),
    "JSN-01 half an object": (b"{", 400, "bad_request"),
    "JSN-01 an array": (b"[]", 422, "invalid_request"),
    "JSN-01 null": (b"null", 422, "invalid_request"),
    "JSN-02 NaN": (b'{"version": NaN}', 422, "invalid_request"),
    "JSN-02 1e999": (b'{"version": 1e999}', 422, "invalid_request"),
    "JSN-03 5,000 digits": (b'{"version": ' + b"9" * 5000 + b"}", 400, "bad_request"),
    "JSN-04 a lone surrogate": (b'{"version": "\\ud800"}', 422, "invalid_request"),
    "JSN-06 a name twice": (b'{"version": 1, "version": 1}', 400, "duplicate_key"),
    "JSN-06 a name twice, written in two ways": (b'{"version": 1, "\\u0076ersion": 2}', 400, "duplicate_key"),
    "JSN-07 an unknown field": (b'{"version": 1, "is_admin": true}', 422, "invalid_request"),
    "JSN-08 invalid UTF-8": (b'{"version": "\xff"}', 400, "bad_request"),
    "JSN-08 UTF-16": ('{"version": 1}'.encode("utf-16"), 400, "bad_request"),
    "JSN-08 UTF-16 without a mark": ('{"version": 1}'.encode("utf-16-le"), 400, "bad_request"),
    "JSN-08 UTF-32": ('{"version": 1}'.encode("utf-32"), 400, "bad_request"),
    "JSN-08 a byte order mark": (b'\xef\xbb\xbf{"version": 1}', 400, "bad_request"),
    "JSN-09 a depth of 900": (b"[" * 900 + b"]" * 900, 400, "bad_request"),
    "JSN-09 a depth of 100,000": (b"[" * 100_000, 400, "bad_request"),
    "JSN-10 true for a number": (b'{"version": true}', 422, "invalid_request"),
    "JSN-10 text for a number": (b'{"version": "1"}', 422, "invalid_request"),
    "JSN-12 2 MB of another type": (b'{"version": "' + b"a" * 2_000_000 + b'"}', 413, "body_too_large"),
}


@pytest.mark.parametrize("row", TEXTS)
def test_bad_json_is_refused_with_its_code(shared_client: TestClient, refused: Any, row: str) -> None:
    body, status, code = TEXTS[row]

    refused(shared_client, shared_client.put(ALIAS, content=body, headers=JSON), status, code, secret="a" * 99)
    assert shared_client.get("/adapters/cells").json()["aliases"] == {}


@pytest.mark.parametrize("text", ["a\0", "a\x9b", "a\u202e", "a\u200b", "\ue000"])
def test_jsn_05_a_persons_name_has_no_hidden_characters(shared_client: TestClient, refused: Any, text: str) -> None:
    labels = {"sha256:" + "0" * 64: "a"}
    body = json.dumps({"who": text, "labels": labels}).encode()

    answer = shared_client.post("/datasets/cells/labels", content=body, headers=JSON)
    refused(shared_client, answer, 422, "invalid_request", secret=text)
    answer = shared_client.post("/datasets/cells/unlabelled", params={"who": text}, content=b"x")
    refused(shared_client, answer, 422, "invalid_request", secret=text)


NAMES = {
    "NAM-01": "..%2Fetc",
    "NAM-02": "a%2F..%2Fb",
    "NAM-03": "..%2F..%2Fetc%2Fpasswd",
    "NAM-04": "..%2F..%2F..%2F..%2Fetc",
    "NAM-05": "model%2F..",
    "NAM-06": "%2E%2E",
    "NAM-07": "%2Fetc%2Fpasswd",
    "NAM-08": "model%2Fsubdir",
    "NAM-09": "model%2F",
    "NAM-10": "%20..",
    "NAM-11": "..%20",
    **{f"NAM-12 {name}": name for name in ("%20", "%09", "%0A", "%C2%A0", "%E2%80%83", "%E3%80%80")},
    "NAM-13": "a" * 256,
    **{
        f"NAM-14 {name}": name
        for name in ("CON", "con", "nul", "base", "none", "default", "latest", "-rf", "aux", "prn")
    },
    "NAM-15 a homoglyph": "%D0%B0dapter",
    "NAM-15 full width": "%EF%BD%81",
    "NAM-16": "Cells",
    **{
        f"NAM-17 {name}": name
        for name in ("'%3B%20DROP%20TABLE", "%7B%7B7*7%7D%7D", "$%7Bjndi:x%7D", "%25s%25n", "%3Cscript%3E")
    },
}


@pytest.mark.parametrize("row", NAMES)
def test_a_bad_name_creates_nothing_and_names_nothing(shared_client: TestClient, row: str) -> None:
    name = NAMES[row]
    for method, path in (
        ("PUT", f"/adapters/{name}"),
        ("GET", f"/adapters/{name}"),
        ("DELETE", f"/adapters/{name}"),
        ("PUT", f"/datasets/{name}"),
        ("GET", f"/adapters/cells/versions/{name}"),
        ("PUT", f"/adapters/cells/aliases/{name}"),
        ("GET", f"/jobs/{name}"),
    ):
        body: dict[str, Any] = {"json": {"version": 1}} if "aliases" in path else {}
        answer = shared_client.request(method, path, follow_redirects=False, **body)
        assert answer.status_code in (404, 405, 422), (method, path, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert len(answer.content) < 4096
    assert [a["name"] for a in shared_client.get("/adapters").json()["adapters"]] == ["cells", "tiles"]


@pytest.mark.parametrize("digits", ["0" * 63, "0" * 65, "../" + "0" * 61])
def test_nam_18_a_digest_has_64_digits(shared_client: TestClient, digits: str) -> None:
    answer = shared_client.post("/predict", params={"adapter": f"cells@sha256:{digits}"}, content=b"x")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_reference")


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "9" * 30, str(2**63)])
def test_nam_20_a_version_is_a_number_from_1(shared_client: TestClient, number: str) -> None:
    answer = shared_client.get(f"/adapters/cells/versions/{number}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
