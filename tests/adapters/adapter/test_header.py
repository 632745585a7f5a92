"""The header check refuses files that safetensors 0.8 accepts, and the library accepts every file that passes it."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from lensmount_adapters.adapter.header import Limits, read_header
from lensmount_adapters.errors import AdapterError, AdapterMalformed, AdapterTooLarge

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]}
GOOD: dict[str, Any] = {"__metadata__": {"lensmount": "{}"}, "a.weight": A, "b": B}
BODY = bytes(range(32))


def pack(header: dict[str, Any] | str | bytes, body: bytes = BODY) -> bytes:
    """A safetensors file written by hand: length, header, data."""
    text = json.dumps(header) if isinstance(header, dict) else header
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(encoded)) + encoded + body


def changed(tensor: str = "b", **fields: object) -> dict[str, Any]:
    return {**GOOD, tensor: {**GOOD[tensor], **fields}}


def test_a_good_header_gives_its_entries_metadata_and_where_the_data_begins() -> None:
    data = pack(GOOD)
    header = read_header(data, Limits())
    assert list(header.entries) == ["a.weight", "b"]
    assert header.entries["a.weight"].shape == (2, 3)
    assert (header.entries["b"].start, header.entries["b"].end) == (24, 32)
    assert header.metadata == {"lensmount": "{}"}
    assert data[header.data_start :] == BODY


def test_files_of_the_library_pass() -> None:
    tensors = {"x": torch.randn(3), "y": torch.randn(2, 2).half(), "z": torch.zeros(()), "w": torch.ones(5).bfloat16()}
    header = read_header(safetensors.torch.save(tensors, {"k": "v"}), Limits())
    assert {name: entry.shape for name, entry in header.entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }


MALFORMED = {
    "no bytes": b"",
    "7 bytes": b"\x10" + bytes(6),
    "8 bytes": struct.pack("<Q", 2),
    "length cuts the JSON": struct.pack("<Q", 9) + pack(GOOD)[8:],
    "not UTF-8": pack(b'{"\xff": 1}'),
    "UTF-16": pack(json.dumps(GOOD).encode("utf-16-le")),
    "byte order mark": pack(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    "not JSON": pack("{hello}"),
    "an array": pack("[]"),
    "null": pack("null"),
    "garbage after the JSON": pack(json.dumps(GOOD) + "x"),
    "two objects": pack(json.dumps(GOOD) * 2),
    "a leading space": pack(" " + json.dumps(GOOD)),
    "a lone surrogate": pack({**GOOD, "__metadata__": {"k": "\ud800"}}),
    "an integer of 5,000 digits": pack(json.dumps(GOOD).replace("24, 32", "24, " + "9" * 5000)),
    "100,000 levels": pack('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "metadata of numbers": pack({**GOOD, "__metadata__": {"k": 1}}),
    "metadata nested": pack({**GOOD, "__metadata__": {"k": {"k": "v"}}}),
    "metadata null": pack({**GOOD, "__metadata__": None}),
    "metadata as a tensor": pack({**GOOD, "__metadata__": A}),
    "a tensor twice, one span": pack(f'{{"a": {json.dumps(A)}, "a": {json.dumps(A)}}}', BODY[:24]),
    "a tensor twice, another dtype": pack(f'{{"a": {json.dumps(A)}, "a": {json.dumps(B)}}}'),
    "a key twice in the metadata": pack('{"__metadata__": {"k": "1", "k": "2"}, ' + json.dumps(GOOD)[1:]),
    "a field twice": pack('{"a": {"dtype": "F32", "dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}'),
    "an unknown field": pack(changed(extra=1)),
    "a missing field": pack({"b": {"dtype": "F16", "shape": [16]}}),
    "a tensor that is a list": pack({**GOOD, "b": [1]}),
    "two names for one span": pack({**GOOD, "c": B}),
    "an overlap": pack(changed(shape=[6], data_offsets=[20, 32])),
    "a gap": pack(changed(shape=[3], data_offsets=[26, 32])),
    "bytes after the data": pack(GOOD, BODY + b"x"),
    "a missing byte": pack(GOOD, BODY[:-1]),
    "a first offset that is not 0": pack({"b": {**B, "data_offsets": [24, 32]}}),
    "an offset past the end": pack(changed(shape=[6], data_offsets=[24, 36])),
    "offsets reversed": pack(changed(data_offsets=[32, 24])),
    "a negative offset": pack(changed(data_offsets=[-8, 0])),
    "minus zero": pack(json.dumps(GOOD).replace("[0, 24]", "[-0, 24]")),
    "offsets in floating point": pack(changed(data_offsets=[24.0, 32.0])),
    "three offsets": pack(changed(data_offsets=[24, 28, 32])),
    "offsets as text": pack(changed(data_offsets=["24", "32"])),
    "NaN for an offset": pack(changed(data_offsets=[float("nan"), 32])),
    "true for a size": pack(changed(shape=[True, 4])),
    "a shape that overflows 64 bits": pack(changed(shape=[2**32, 2**32, 4])),
    "a size of 2^64": pack(changed(shape=[2**64])),
    "a negative size": pack(changed(shape=[-2, -2])),
    "a shape that does not fill its span": pack(changed(shape=[5])),
    "a shape that is a number": pack(changed(shape=4)),
    "a rank of 100,000": pack(changed(shape=[1] * 100_000)),
    "a size of 2^63 - 1 next to 0": pack(changed(shape=[2**63 - 1, 0], data_offsets=[24, 24]), BODY[:24]),
}
OTHER_CODES = {
    "no tensor": (pack({}, b""), "adapter_empty"),
    "metadata only": (pack({"__metadata__": {}}, b""), "adapter_empty"),
    "an empty tensor": (pack(changed(shape=[0, 10**9], data_offsets=[24, 24]), BODY[:24]), "empty_tensor"),
    **{
        f"dtype {dtype}": (pack(changed(dtype=dtype)), "unsupported_dtype")
        for dtype in ("F64", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "F128", "f16", "", None, 7)
    },
    **{
        f"the name {name[:12]!r}": (pack({**GOOD, name: A}), "adapter_unknown_target")
        for name in (
            "",
            "\0",
            "x" * 10_000,
            "../../etc/passwd",
            "a/b",
            "..",
            "a..b",
            "-rf",
            " a",
            "é",
            "a\n",
            "$x",
            "\\",
        )
    },
    "4,097 tensors": (
        pack({f"t{i}": {"dtype": "F16", "shape": [1], "data_offsets": [2 * i, 2 * i + 2]} for i in range(4097)}, b""),
        "adapter_too_many_tensors",
    ),
    "a header of more than 1 MiB": (
        pack({"__metadata__": {"k": "x" * 2**20}, "a": A}, BODY[:24]),
        "adapter_header_too_large",
    ),
    "5 MB of spaces after the header": (pack(json.dumps(GOOD) + " " * 5_000_000), "adapter_header_too_large"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_it_refuses(name: str) -> None:
    with pytest.raises(AdapterMalformed, match=r"\. Fix: "):
        read_header(MALFORMED[name], Limits())


@pytest.mark.parametrize("name", OTHER_CODES)
def test_it_refuses_with_a_specific_code(name: str) -> None:
    data, code = OTHER_CODES[name]
    with pytest.raises(AdapterError) as caught:
        read_header(data, Limits())
    assert caught.value.code == code
    assert ". Fix: " in str(caught.value)


@pytest.mark.parametrize("claim", [33 + 10**3, 2**30, 2**31, 2**48, 2**63, 2**64 - 1])
def test_a_claimed_header_length_allocates_nothing(claim: int) -> None:
    data = struct.pack("<Q", claim) + pack(GOOD)[8:]
    tracemalloc.start()
    with pytest.raises(AdapterMalformed, match="cut short"):
        read_header(data, Limits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_claimed_tensor_size_allocates_nothing() -> None:
    data = pack({"a": {"dtype": "F32", "shape": [2**28], "data_offsets": [0, 2**30]}})
    tracemalloc.start()
    with pytest.raises(AdapterMalformed):
        read_header(data, Limits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_the_caller_sets_the_limits() -> None:
    data = pack(GOOD)
    with pytest.raises(AdapterTooLarge, match=f"found {len(data)} bytes, expected at most {len(data) - 1}"):
        read_header(data, Limits(max_file_bytes=len(data) - 1))
    with pytest.raises(AdapterTooLarge, match="2 tensors, expected at most 1"):
        read_header(data, Limits(max_tensors=1))
    assert read_header(data, Limits(max_file_bytes=len(data), max_tensors=2))


def test_a_file_cut_anywhere_is_refused() -> None:
    data = pack(GOOD)
    for length in range(len(data)):
        with pytest.raises(AdapterMalformed):
            read_header(data[:length], Limits())


def test_the_library_reads_every_accepted_file_in_the_same_way() -> None:
    """Over 5,000 mutations of the header, the two never disagree on a file that passes."""
    rng = random.Random(0)
    accepted = 0
    for _ in range(5_000):
        data = mutate(rng, json.dumps(GOOD))
        try:
            header = read_header(data, Limits())
        except AdapterError:
            continue
        accepted += 1
        read = dict(safetensors.deserialize(data))
        assert {name: entry.shape for name, entry in header.entries.items()} == {
            name: tuple(entry["shape"]) for name, entry in read.items()
        }
        for name, entry in header.entries.items():
            assert data[header.data_start + entry.start : header.data_start + entry.end] == bytes(read[name]["data"])
    assert accepted > 50  # otherwise the mutations are too coarse to show anything


PIECES = ["-", "0", "1", "24", "32", " ", '"', "{", "}", "[", "]", ",", ":", "\\ud800", "\\u0000", "e0", ".0", "null"]


def mutate(rng: random.Random, header: str) -> bytes:
    """One to three edits of the text: a piece inserted, characters cut out or doubled, digits changed."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(header))
        width = rng.randint(1, 4)
        edit = rng.randrange(4)
        if edit == 0:
            header = header[:at] + rng.choice(PIECES) + header[at:]
        elif edit == 1:
            header = header[:at] + header[at + width :]
        elif edit == 2:
            header = header[:at] + header[at : at + width] + header[at:]
        else:
            header = header[:at] + chr(rng.randrange(32, 127)) + header[at + 1 :]
    return pack(header)
