"""Nothing that a client sends is a 500: each bad input has its status and code, and the next request is served."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from lensmount_adapters import parse_adapter

if TYPE_CHECKING:
    from httpx2 import Response
    from tests.service.conftest import CompareAnswers, ListPublished, MakeAdapter, MakePng


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def icon() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "ICO")
    return buffer.getvalue()


IMAGES = {
    "an empty image": (b"", 422, "image_empty"),
    "text as image": (b"this is not an image", 415, "unsupported_image_format"),
    "an icon": (icon(), 415, "unsupported_image_format"),
    "a 30,000 x 30,000 image": (huge_png(), 413, "image_too_large"),
    "a pickle": (pickle.dumps({"a": 1}), 415, "unsupported_image_format"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_a_bad_image_is_refused_with_its_code(shared_client: TestClient, make_png: MakePng, case: str) -> None:
    data, status, code = IMAGES[case]

    for answer in (
        shared_client.post("/predict?adapter=cells", content=data),
        shared_client.post("/predict?adapter=cells", files=[("file", make_png()), ("file", data)]),
    ):
        check_problem(answer, status, code)
    assert shared_client.post("/predict?adapter=cells", content=make_png()).status_code == 200


def test_a_truncated_image_is_refused(shared_client: TestClient, make_png: MakePng) -> None:
    for cut in (60, 200, 1000):  # into the pixels
        check_problem(shared_client.post("/predict?adapter=cells", content=make_png()[:-cut]), 422, "image_truncated")


REFERENCES = {
    "an unknown adapter": ("nope", 404, "adapter_not_found"),
    "an unknown version": ("cells@99", 404, "version_not_found"),
    "an unknown digest": ("cells@sha256:" + "0" * 64, 404, "version_not_found"),
    "an unknown alias": ("cells:prod", 404, "alias_not_found"),
    "a path": ("../../etc/passwd", 422, "invalid_reference"),
    "a short digest": ("cells@sha256:" + "0" * 63, 422, "invalid_reference"),
    "nothing": ("", 422, "invalid_reference"),
    "too many": (",".join(["cells"] * 17), 422, "invalid_request"),
    "a NUL": ("cells\x00", 422, "invalid_reference"),
    "a homoglyph": ("сells", 422, "invalid_reference"),  # noqa: RUF001  # the first letter is Cyrillic
}


@pytest.mark.parametrize("case", REFERENCES)
def test_a_bad_reference_is_refused_with_its_code(shared_client: TestClient, make_png: MakePng, case: str) -> None:
    reference, status, code = REFERENCES[case]

    check_problem(shared_client.post("/predict", params={"adapter": reference}, content=make_png()), status, code)
    assert shared_client.post("/predict?adapter=cells", content=make_png()).status_code == 200


def edited(data: bytes, **changes: Any) -> bytes:
    """The file with changed tensors or manifest fields, as anyone could write it with the safetensors library."""
    import safetensors.torch

    file = parse_adapter(data)
    manifest = json.loads(file.manifest.dump()) | changes.pop("manifest", {})
    tensors = dict(file.tensors) | changes.pop("tensors", {})
    saved: bytes = safetensors.torch.save(
        {name: tensor for name, tensor in tensors.items() if tensor is not None},
        metadata={"lensmount": json.dumps(manifest)},
    )
    return saved


def zip_of_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    assert zipfile.is_zipfile(buffer)
    return buffer.getvalue()


A = "layer4.0.conv1.lora_A.weight"
B = "layer4.0.conv1.lora_B.weight"
ADAPTERS: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "another backbone's": (
        lambda data: edited(data, manifest={"backbone": {"name": "test_resnet", "fingerprint": "sha256:" + "0" * 64}}),
        409,
        "backbone_mismatch",
    ),
    "NaN": (
        lambda data: edited(data, tensors={"head.bias": torch.tensor([0.0, float("nan")])}),
        422,
        "adapter_not_finite",
    ),
    "rank 0": (lambda data: edited(data, tensors={A: torch.zeros(0, 192, 3, 3)}), 422, "empty_tensor"),
    "an unknown layer": (
        lambda data: edited(data, tensors={"layer9.0.conv1.lora_A.weight": torch.zeros(4, 8)}),
        422,
        "adapter_unknown_target",
    ),
    "an extra head tensor": (
        lambda data: edited(data, tensors={"head.extra": torch.zeros(2)}),
        422,
        "adapter_unknown_target",
    ),
    "../ in a name": (
        lambda data: edited(data, tensors={"../../etc/passwd": torch.zeros(2)}),
        422,
        "adapter_unknown_target",
    ),
    "factors without their partner": (lambda data: edited(data, tensors={B: None}), 422, "adapter_incomplete"),
    "transposed factors": (
        lambda data: edited(data, tensors={B: torch.zeros(4, 96, 1, 1)}),
        422,
        "adapter_shape_mismatch",
    ),
    "no head": (lambda data: edited(data, tensors={"head.weight": None, "head.bias": None}), 422, "head_missing"),
    "other labels than outputs": (
        lambda data: edited(data, manifest={"labels": ["a", "b", "c"]}),
        422,
        "head_mismatch",
    ),
    "an unknown manifest field": (lambda data: edited(data, manifest={"is_admin": True}), 422, "manifest_invalid"),
    "a truncated file": (lambda data: data[:-7], 422, "adapter_malformed"),
    "a header of 1 GB": (lambda data: struct.pack("<Q", 2**30) + data[8:], 422, "adapter_malformed"),
    "a pickle": (lambda _: pickle.dumps({"a": 1}), 415, "unsupported_adapter_format"),
    "a .pt file": (lambda _: zip_of_pickle(), 415, "unsupported_adapter_format"),
    "nothing": (lambda _: b"", 422, "adapter_malformed"),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_a_bad_adapter_is_refused_and_changes_nothing(
    shared_client: TestClient,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    published: ListPublished,
    same_scores: CompareAnswers,
    case: str,
) -> None:
    make_bad, status, code = ADAPTERS[case]
    before = shared_client.post("/predict?adapter=cells", content=make_png()).json()
    listed = published(shared_client)

    check_problem(shared_client.put("/adapters/cells", content=make_bad(make_adapter(8))), status, code)

    assert published(shared_client) == listed
    after = shared_client.post("/predict?adapter=cells", content=make_png()).json()
    assert same_scores(after, before)
    assert after["adapter"] == before["adapter"]
    assert shared_client.get("/integrity").json()["ok"]
    good = make_adapter(100 + list(ADAPTERS).index(case))  # each case has its own: the app is one for all
    assert shared_client.put("/adapters/cells", content=good).status_code == 201


NAMES = ["..", "a%2F..", "UPPER", "latest", "base", "-rf", "con", "a" * 65, "a b", "%00", "%FF", "a%0Ab", "<script>"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_name_is_refused(shared_client: TestClient, make_adapter: MakeAdapter, name: str) -> None:
    answer = shared_client.put(f"/adapters/{name}", content=make_adapter(8))

    assert answer.status_code in (404, 405, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [a["name"] for a in shared_client.get("/adapters").json()["adapters"]] == ["cells", "tiles"]


REQUESTS: dict[str, tuple[str, str, dict[str, Any], int, str | None]] = {
    "no adapter named": ("POST", "/predict", {}, 422, "invalid_request"),
    "top_k of zero": ("POST", "/predict?adapter=cells&top_k=0", {}, 422, "invalid_request"),
    "an unknown route": ("GET", "/nothing", {}, 404, "not_found"),
    "an unknown method": ("PATCH", "/adapters/cells", {}, 405, "method_not_allowed"),
    "a version that is not a number": ("GET", "/adapters/cells/versions/first", {}, 422, "invalid_request"),
    "a version beyond any integer": ("GET", "/adapters/cells/versions/" + "9" * 400, {}, 422, "invalid_request"),
    "an alias body that is not JSON": (
        "PUT",
        "/adapters/cells/aliases/prod",
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        400,
        "bad_request",
    ),
    "an alias body with a surrogate": (
        "PUT",
        "/adapters/cells/aliases/prod",
        {"content": b'{"version": 1, "\\ud800": 1}', "headers": {"Content-Type": "application/json"}},
        422,
        "invalid_request",
    ),
    "a version that is true": (
        "PUT",
        "/adapters/cells/aliases/prod",
        {"json": {"version": True}},
        422,
        "invalid_request",
    ),
    "a version that is NaN": (
        "PUT",
        "/adapters/cells/aliases/prod",
        {"content": b'{"version": NaN}', "headers": {"Content-Type": "application/json"}},
        422,
        None,
    ),
    "a deep JSON body": (
        "PUT",
        "/adapters/cells/aliases/prod",
        {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
        400,
        None,
    ),
    "a reserved alias": ("PUT", "/adapters/cells/aliases/latest", {"json": {"version": 1}}, 422, "invalid_name"),
    "a multipart body without a boundary": (
        "POST",
        "/predict?adapter=cells",
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "multipart_malformed",
    ),
    "a multipart body that is cut short": (
        "POST",
        "/predict?adapter=cells",
        {
            "content": b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx',
            "headers": {"Content-Type": "multipart/form-data; boundary=B"},
        },
        400,
        "multipart_truncated",
    ),
    "a file part under another name": (
        "POST",
        "/predict?adapter=cells",
        {"files": {"image": b"x"}},
        422,
        "missing_part",
    ),
    "a plain field": (
        "POST",
        "/predict?adapter=cells",
        {"files": {"file": b"x"}, "data": {"image_url": "http://169.254.169.254/"}},
        422,
        "invalid_request",
    ),
    "a compressed body": (
        "POST",
        "/predict?adapter=cells",
        {"content": b"x", "headers": {"Content-Encoding": "gzip"}},
        415,
        "unsupported_content_encoding",
    ),
    "too many files": ("POST", "/predict?adapter=cells", {"files": [("file", b"x")] * 65}, 413, "batch_too_large"),
    "a URI that is too long": ("GET", "/adapters/" + "a" * 5000, {}, 414, "uri_too_long"),
    "headers that are too large": ("GET", "/limits", {"headers": {"X-Long": "a" * 20_000}}, 431, "headers_too_large"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_bad_request_is_refused_with_its_code(shared_client: TestClient, make_png: MakePng, case: str) -> None:
    method, url, more, status, code = REQUESTS[case]

    check_problem(shared_client.request(method, url, **more), status, code)
    assert shared_client.post("/predict?adapter=cells", content=make_png()).status_code == 200


SECRET = "Mustermann"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"/predict?adapter=cells&top_k={SECRET}", None),
        ("POST", f"/predict?adapter=cells&decision={SECRET}", None),
        ("GET", f"/adapters/cells/versions/{SECRET}", None),
        ("PUT", "/adapters/cells/aliases/prod", {"version": SECRET}),
        ("PUT", "/adapters/cells/aliases/prod", {"version": 1, "trust": {"accept_confidence": SECRET}}),
        ("POST", "/jobs", {"dataset": "cells", "adapter": "cells", "epochs": SECRET}),
        ("POST", "/datasets/cells/labels", {"who": "me", "labels": SECRET}),
    ],
)
def test_a_refusal_repeats_nothing_of_what_was_sent(
    shared_client: TestClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    refused = shared_client.request(method, path, json=body)

    assert refused.status_code == 422, refused.text
    assert SECRET not in refused.text


def check_problem(answer: Response, status: int, code: str | None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert code is None or body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:lensmount:problem:{body['code']}"
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert len(answer.content) < 4096
