"""Bodies for /v2/models/{name}/infer that are wrong in one way each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lensmount_service.web.compression import pack


def with_tail(head: dict[str, Any], tail: bytes, length: int | None = None) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text) if length is None else length)}


def malformed() -> Iterator[tuple[bytes, dict[str, str]]]:
    """More than 200 bodies, each with its headers."""
    wrong: Any
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    good = {**tensor, "parameters": {"binary_data_size": 9}}
    tail = b"\5\0\0\0hello"
    for length in (10**6, 10**11, 500):
        yield with_tail({"inputs": [good]}, tail, length)
    for text in ("-1", "x", "1.5", "", "0x10", "9" * 40, "\uff11", "1,2"):
        yield b"{}", {"Inference-Header-Content-Length": text.encode().decode("latin-1")}
    for wrong in (-1, 10, 8, 0, 2**31, 2**63, 10**30, "9", None, True, 1.5, [9]):
        yield with_tail({"inputs": [{**tensor, "parameters": {"binary_data_size": wrong}}]}, tail)
    for wrong in (
        [],
        [0],
        [2],
        [-1],
        [1, 1, 1],
        [2**63],
        [10**30],
        [1.5],
        ["1"],
        [None],
        [True],
        1,
        None,
        "1",
        [1] * 99,
    ):
        yield with_tail({"inputs": [{**good, "shape": wrong}]}, tail)
        yield with_tail({"inputs": [{**good, "name": "input", "datatype": "FP32", "shape": wrong}]}, tail)
    for prefix in (6, 2**31, 2**32 - 1, 4, 0):
        yield with_tail({"inputs": [good]}, prefix.to_bytes(4, "little") + b"hello")
    for wrong in ("FP32", "INT8", "bytes", "", "FP16", "X" * 1000, 1, None, []):
        yield with_tail({"inputs": [{**good, "datatype": wrong}]}, tail)
    for wrong in ("pixels", "", "image\0", "i" * 1000, 1, None, {}):
        yield with_tail({"inputs": [{**good, "name": wrong}]}, tail)
    for wrong in ([], {}, None, 1, "x", [1], [[]], [None], [good, good], [good] * 17, [{}], [{"name": "image"}]):
        yield with_tail({"inputs": wrong}, tail)
    for wrong in (
        [],
        ["x"],
        ["===="],
        ["aGk"],
        [1],
        [None],
        [[1]],
        ["aGk=", "aGk="],
        [{}],
        [True],
        "aGk=",
        1,
        {},
        None,
        ["é"],
    ):
        yield json.dumps({"inputs": [{**tensor, "data": wrong}]}).encode(), {}
    floats = {"name": "input", "shape": [1, 3, 64, 64], "datatype": "FP32"}
    for wrong in (1e300, -100, 1e39, "1", None, True, [1, 2], {}, 10**400):
        yield json.dumps({"inputs": [{**floats, "data": [0.0] * (3 * 64 * 64 - 1) + [wrong]}]}).encode(), {}
    for count in (0, 1, 3 * 64 * 64 - 1, 3 * 64 * 64 + 1):
        yield json.dumps({"inputs": [{**floats, "data": [0] * count}]}).encode(), {}
    for bits in (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f"):
        size = 4 * 3 * 64 * 64
        described = {**floats, "parameters": {"binary_data_size": size}}
        yield with_tail({"inputs": [described]}, bits * (size // 4))
    for wrong in ([{}], [1], {}, "x", [{"name": 1}], [{"name": "nothing"}], [{"name": "scores"}] * 17):
        yield with_tail({"inputs": [good], "outputs": wrong}, tail)
    for wrong in (
        {"classification": -1},
        {"classification": "2"},
        {"classification": True},
        [],
        {"a": []},
        {"a": None},
    ):
        yield with_tail({"inputs": [good], "outputs": [{"name": "scores", "parameters": wrong}]}, tail)
    yield with_tail({"inputs": [good], "outputs": [{"name": "label", "parameters": {"classification": 1}}]}, tail)
    for wrong in (
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 1e6},
        {"timeout": 10**30},
        {"x": {}},
        {"x": None},
        [],
        1,
    ):
        yield with_tail({"inputs": [good], "parameters": wrong}, tail)
    for wrong in (1, [], {}, "x" * 257, True):
        yield with_tail({"inputs": [good], "id": wrong}, tail)
    for junk in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff",
        b"{}",
        b'{"inputs":[NaN]}',
        b'{"a":1,"a":2}',
        b"[" * 99,
    ):
        yield junk, {}
    yield b"[" * 10**6, {}
    yield json.dumps({"inputs": [good] * 10**5}).encode(), {}
    yield b'{"inputs":[' + b"{}," * 10**6 + b"{}]}", {}
    whole = json.dumps({"inputs": [{**tensor, "data": ["aGk="]}]}).encode()
    for part in range(1, 30):
        yield whole[: len(whole) * part // 30], {}
    for encoding in ("gzip", "deflate"):
        packed = pack(whole, encoding)
        for body in (whole, packed[:-1], packed + b"x", packed[:10], b"", packed * 2, packed):
            yield body, {"Content-Encoding": encoding}
    yield pack(whole, "gzip"), {"Content-Encoding": "deflate"}
    for encoding in ("br", "gzip, gzip", "zstd", "x"):
        yield whole, {"Content-Encoding": encoding}
