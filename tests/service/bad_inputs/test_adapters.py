"""Adapter files that are hostile or broken: each row is refused with its code, and nothing is stored."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import parse_adapter

if TYPE_CHECKING:
    from tests.service.conftest import ListPublished, MakeAdapter, MakeParts

MALFORMED, UNKNOWN, INVALID = "adapter_malformed", "adapter_unknown_target", "manifest_invalid"
A, B = "layer4.0.conv1.lora_A.weight", "layer4.0.conv1.lora_B.weight"


def framed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def entry(shape: Any = (1,), offsets: Any = (0, 4), dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def one(data: bytes = bytes(4), **fields: Any) -> bytes:
    return framed(json.dumps({"a": entry(**fields)}).encode(), data)


def zipped(name: str) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr(name, b"x")
    return buffer.getvalue()


def npy() -> bytes:
    np.save(buffer := io.BytesIO(), np.zeros(4))
    return buffer.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "ADP-01 nothing": (lambda: b"", 422, MALFORMED),
    "ADP-01 7 bytes": (lambda: bytes(7), 422, MALFORMED),
    "ADP-01 8 bytes": (lambda: bytes(8), 422, MALFORMED),
    "ADP-02 2^63": (lambda: struct.pack("<Q", 2**63) + b"{}", 422, MALFORMED),
    "ADP-02 2^64-1": (lambda: b"\xff" * 8 + b"{}", 422, MALFORMED),
    "ADP-03 a header cut short": (lambda: struct.pack("<Q", 9) + b'{"a":', 422, MALFORMED),
    "ADP-04 a header of 2 MB": (lambda: framed(b"{" + b" " * 2**21 + b"}"), 413, "adapter_header_too_large"),
    "ADP-05 not UTF-8": (lambda: framed(b'{"\xff": 1}'), 422, MALFORMED),
    "ADP-05 not JSON": (lambda: framed(b"{nope}"), 422, MALFORMED),
    "ADP-05 an array": (lambda: framed(b"[]"), 422, MALFORMED),
    "ADP-05 garbage behind": (lambda: framed(b"{}x"), 422, MALFORMED),
    "ADP-06 a space before": (lambda: framed(b" {}"), 422, MALFORMED),
    "ADP-07 no tensor": (lambda: framed(b"{}"), 422, "adapter_empty"),
    "ADP-08 5,000 tensors": (
        lambda: framed(json.dumps({f"a{n}": entry(offsets=(4 * n, 4 * n + 4)) for n in range(5000)}).encode()),
        413,
        "adapter_too_many_tensors",
    ),
    "ADP-09 a number in the metadata": (lambda: framed(b'{"__metadata__": {"a": 1}}'), 422, MALFORMED),
    "ADP-09 nested metadata": (lambda: framed(b'{"__metadata__": {"a": {}}}'), 422, MALFORMED),
    "ADP-09 deep metadata": (lambda: framed(b'{"__metadata__": ' + b"[" * 100_000), 422, MALFORMED),
    "ADP-10 a tensor twice": (
        lambda: framed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":1}', bytes(4)),
        422,
        MALFORMED,
    ),
    "ADP-11 a tensor twice, as bytes and as numbers": (
        lambda: framed(
            b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        422,
        MALFORMED,
    ),
    "ADP-12 a key twice in the metadata": (lambda: framed(b'{"__metadata__":{"a":"1","a":"2"}}'), 422, MALFORMED),
    "ADP-13 a field twice": (lambda: framed(b'{"a":{"dtype":"F32","dtype":"F16"}}'), 422, MALFORMED),
    "ADP-14 an unknown field": (lambda: one(code="x"), 422, MALFORMED),
    "ADP-15 metadata as a tensor": (lambda: framed(json.dumps({"__metadata__": entry()}).encode()), 422, MALFORMED),
    "ADP-16 an overlap": (
        lambda: framed(json.dumps({"a": entry(), "b": entry()}).encode(), bytes(4)),
        422,
        MALFORMED,
    ),
    "ADP-17 a hole": (lambda: one(bytes(8), offsets=(4, 8)), 422, MALFORMED),
    "ADP-17 bytes behind": (lambda: one(bytes(9)), 422, MALFORMED),
    "ADP-18 beyond the end": (lambda: one(offsets=(0, 8), shape=(2,)), 422, MALFORMED),
    "ADP-18 reversed": (lambda: one(offsets=(4, 0)), 422, MALFORMED),
    "ADP-18 negative": (lambda: one(offsets=(-4, 0)), 422, MALFORMED),
    "ADP-18 a float": (lambda: one(offsets=(0.0, 4.0)), 422, MALFORMED),
    "ADP-18 three": (lambda: one(offsets=(0, 2, 4)), 422, MALFORMED),
    "ADP-19 a product that overflows": (lambda: one(shape=(2**40, 2**40)), 422, MALFORMED),
    "ADP-19 2^64": (lambda: one(shape=(2**64,)), 422, MALFORMED),
    "ADP-19 negative": (lambda: one(shape=(-1,)), 422, MALFORMED),
    "ADP-19 another size": (lambda: one(shape=(2,)), 422, MALFORMED),
    "ADP-20 an empty tensor": (lambda: one(b"", shape=(0, 10**9), offsets=(0, 0)), 422, "empty_tensor"),
    "ADP-21 a rank of 100,000": (lambda: one(shape=[1] * 100_000), 422, MALFORMED),
    "ADP-23 lower case": (lambda: one(dtype="f32"), 422, "unsupported_dtype"),
    **{
        f"ADP-24 {dtype}": (partial(one, dtype=dtype), 422, "unsupported_dtype")
        for dtype in ("F128", "F64", "I64", "BOOL", "F8_E4M3", "F4", "C64")
    },
    **{
        f"ADP-25 {name[:20]!r}": (
            partial(lambda name: framed(json.dumps({name: entry()}).encode(), bytes(4)), name),
            422,
            UNKNOWN,
        )
        for name in ("", "a\0b", "a" * 1000, "../../etc/passwd", "a/b", "a b", "ä", "\u202ea", "..")
    },
    "ADP-42 a pickle": (lambda: pickle.dumps({"a": 1}), 415, "unsupported_adapter_format"),
    "ADP-42 a zip": (lambda: zipped("a.txt"), 415, "unsupported_adapter_format"),
    "ADP-42 a .npy file": (npy, 415, "unsupported_adapter_format"),
    "ADP-42 GGUF": (lambda: b"GGUF" + bytes(99), 415, "unsupported_adapter_format"),
    "ADP-42 HTML": (lambda: b"<!DOCTYPE html><html></html>", 415, "unsupported_adapter_format"),
    "ADP-42 a Git LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        415,
        "unsupported_adapter_format",
    ),
}


def check(client: TestClient, refused: Any, data: bytes, status: int, code: str) -> None:
    refused(client, client.put("/adapters/cells", content=data), status, code)


@pytest.mark.parametrize("row", FILES)
def test_a_bad_file_is_refused_with_its_code(
    shared_client: TestClient, refused: Any, published: ListPublished, row: str
) -> None:
    make, status, code = FILES[row]
    before = published(shared_client)

    check(shared_client, refused, make(), status, code)
    refused(shared_client, shared_client.post("/adapters", files={"file": make()}), status, code)
    assert published(shared_client) == before


def edited(data: bytes, manifest: dict[str, Any], tensors: dict[str, torch.Tensor | None]) -> bytes:
    """The file with other parts of its manifest (a path of keys with dots) and other tensors."""
    import safetensors.torch

    file = parse_adapter(data)
    document = json.loads(file.manifest.dump())
    for path, value in manifest.items():
        *above, last = path.split("/")
        inner = document
        for key in above:
            inner = inner[key]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    kept = {name: tensor for name, tensor in {**file.tensors, **tensors}.items() if tensor is not None}
    saved: bytes = safetensors.torch.save(kept, metadata={"lensmount": json.dumps(document)})
    return saved


NAN, INF = float("nan"), float("inf")
MODULE = "modules/layer4.0.conv1"
FINGERPRINT = "backbone/fingerprint"
PARTS: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor | None], int, str]] = {
    "ADP-22 rank 1": ({}, {A: torch.zeros(4)}, 422, "adapter_shape_mismatch"),
    "ADP-26 no partner": ({}, {B: None}, 422, "adapter_incomplete"),
    "ADP-27 another rank": ({f"{MODULE}/rank": 8}, {}, 422, "adapter_shape_mismatch"),
    "ADP-27 rank 0": ({f"{MODULE}/rank": 0}, {}, 422, INVALID),
    "ADP-27 a huge rank": ({f"{MODULE}/rank": 10_000}, {}, 413, "rank_too_large"),
    "ADP-28 an unknown layer": ({}, {"layer9.conv.lora_A.weight": torch.zeros(4, 8)}, 422, UNKNOWN),
    "ADP-29 swapped": ({}, {B: torch.zeros(4, 96, 1, 1)}, 422, "adapter_shape_mismatch"),
    **{
        f"ADP-30 {value} in {name}": ({}, {name: torch.tensor([0.5, value])}, 422, "adapter_not_finite")
        for name in ("head.bias",)
        for value in (NAN, INF, -INF)
    },
    "ADP-31 finite factors of an infinite product": (
        {},
        {A: torch.full((4, 192, 3, 3), 1e20), B: torch.full((96, 4, 1, 1), 1e20)},
        422,
        "adapter_not_finite",
    ),
    "ADP-34 a NaN alpha": ({f"{MODULE}/alpha": NAN}, {}, 422, INVALID),
    "ADP-34 an alpha of 1e30": ({f"{MODULE}/alpha": 1e30}, {}, 422, INVALID),
    "ADP-34 an alpha in words": ({f"{MODULE}/alpha": "8"}, {}, 422, INVALID),
    "ADP-34 a denormal alpha": ({f"{MODULE}/alpha": 1e-310}, {}, 422, INVALID),
    "ADP-34 a temperature of 1e-300": ({"head/temperature": 1e-300}, {}, 422, INVALID),
    "ADP-35 a huge delta": ({f"{MODULE}/alpha": 1e6}, {}, 422, "adapter_norm_limit"),
    "ADP-37 other labels": ({"labels": ["a", "b", "c"]}, {}, 422, "head_mismatch"),
    "ADP-37 no labels": ({"labels": []}, {}, 422, INVALID),
    "ADP-37 equal labels": ({"labels": ["a", "a"]}, {}, 422, INVALID),
    "ADP-37 an empty label": ({"labels": ["a", ""]}, {}, 422, INVALID),
    "ADP-37 a long label": ({"labels": ["a", "b" * 300]}, {}, 422, INVALID),
    "ADP-37 a label with NUL": ({"labels": ["a", "b\0"]}, {}, 422, INVALID),
    "ADP-37 a label with CSI": ({"labels": ["a", "b\x9b"]}, {}, 422, INVALID),
    "ADP-37 a label with an override": ({"labels": ["a", "b\u202ec"]}, {}, 422, INVALID),
    "ADP-38 no head": ({}, {"head.weight": None, "head.bias": None}, 422, "head_missing"),
    "ADP-39 another backbone": ({FINGERPRINT: "sha256:" + "0" * 64}, {}, 409, "backbone_mismatch"),
    "ADP-40 no fingerprint": ({FINGERPRINT: ...}, {}, 422, INVALID),
    "ADP-40 63 digits": ({FINGERPRINT: "sha256:" + "0" * 63}, {}, 422, INVALID),
    "ADP-40 upper case": ({FINGERPRINT: "sha256:" + "A" * 64}, {}, 422, INVALID),
    "ADP-40 a path": ({FINGERPRINT: "sha256:../" + "0" * 61}, {}, 422, INVALID),
    "ADP-41 orientations that are true": ({"preprocessing/orientations": True}, {}, 422, INVALID),
    "ADP-41 no mean": ({"preprocessing/mean": ...}, {}, 422, INVALID),
    "ADP-41 a std of 0": ({"preprocessing/std": [0.5, 0, 0.5]}, {}, 422, INVALID),
    "ADP-41 a std of 1e-30": ({"preprocessing/std": [0.5, 1e-30, 0.5]}, {}, 422, INVALID),
    "ADP-41 a size of 10^6": ({"preprocessing/size": [10**6, 10**6]}, {}, 422, INVALID),
}


@pytest.mark.parametrize("row", PARTS)
def test_a_bad_part_of_an_adapter_is_refused_with_its_code(
    shared_client: TestClient, refused: Any, make_adapter: MakeAdapter, published: ListPublished, row: str
) -> None:
    manifest, tensors, status, code = PARTS[row]
    before = published(shared_client)

    check(shared_client, refused, edited(make_adapter(8), manifest, tensors), status, code)
    assert published(shared_client) == before


def test_adp_33_denormal_tensors_are_accepted(shared_client: TestClient, make_adapter: MakeAdapter) -> None:
    data = edited(make_adapter(8), {}, {"head.bias": torch.tensor([1e-40, -0.0])})

    assert shared_client.put("/adapters/small", content=data).status_code == 201
    shared_client.delete("/adapters/small")


def test_adp_45_the_same_bytes_again_are_the_same_version(shared_client: TestClient, make_adapter: MakeAdapter) -> None:
    first = shared_client.put("/adapters/again", content=make_adapter(8))
    second = shared_client.put("/adapters/again", content=make_adapter(8))

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    shared_client.delete("/adapters/again")


def test_adp_36_factors_of_zero_are_refused_because_they_change_nothing(
    shared_client: TestClient, make_adapter: MakeAdapter, refused: Any
) -> None:
    zeros: dict[str, torch.Tensor | None] = {
        name: torch.zeros_like(tensor)
        for name, tensor in parse_adapter(make_adapter(8)).tensors.items()
        if "lora_B" in name
    }

    check(shared_client, refused, edited(make_adapter(8), {}, zeros), 422, "adapter_no_effect")


def test_adp_43_a_file_over_the_limit_is_refused_with_and_without_its_length(
    make_parts: MakeParts, make_adapter: MakeAdapter, refused: Any
) -> None:
    size = len(make_adapter(8))
    with make_parts(max_adapter_bytes=size) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        over = make_adapter(8) + b"\0"
        refused(client, client.put("/adapters/cells", content=over), 413, "body_too_large")
        refused(client, client.put("/adapters/cells", content=iter([over])), 413, "body_too_large")
        refused(client, client.post("/adapters", files={"file": over}), 413, "adapter_too_large")
        lying = client.build_request("PUT", "/adapters/cells", content=make_adapter(8))
        lying.headers["Content-Length"] = str(size + 1)
        refused(client, client.send(lying), 413, "body_too_large")
        assert client.get("/adapters").json() == {"adapters": []}
        assert client.put("/adapters/cells", content=make_adapter(8)).status_code == 201


DIGESTS: dict[str, tuple[str, int, str]] = {
    "ADP-44 another file's": ("sha-256=:" + base64.b64encode(bytes(32)).decode() + ":", 422, "digest_mismatch"),
    "ADP-44 another file's sha-512": ("sha-512=:" + base64.b64encode(bytes(64)).decode() + ":", 422, "digest_mismatch"),
    "ADP-44 of 31 bytes": ("sha-256=:" + base64.b64encode(bytes(31)).decode() + ":", 400, "bad_request"),
    "ADP-44 in hexadecimal digits": ("sha-256=" + "0" * 64, 400, "bad_request"),
    "ADP-44 not base64": ("sha-256=:!!!!:", 400, "bad_request"),
    "ADP-44 of 10 kB": ("sha-256=:" + "A" * 10_000 + ":", 400, "bad_request"),
}


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("row", DIGESTS)
def test_a_file_with_another_digest_than_declared_is_not_stored(
    shared_client: TestClient, make_adapter: MakeAdapter, published: ListPublished, refused: Any, row: str, name: str
) -> None:
    value, status, code = DIGESTS[row]
    before = published(shared_client)

    answer = shared_client.put("/adapters/cells", content=make_adapter(9), headers={name: value})
    refused(shared_client, answer, status, code)
    assert published(shared_client) == before
