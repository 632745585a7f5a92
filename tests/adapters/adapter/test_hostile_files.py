"""A file that is not an adapter, or that is more than one, is refused unread and changes nothing."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from lensmount_adapters import Backbone, admit
from lensmount_adapters.errors import AdapterError, AdapterMalformed, AdapterUnsupported


def pickled(parts: Any) -> bytes:
    return pickle.dumps({"weights": [1.0]}, protocol=4)


def torch_zip(parts: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(parts.tensors, buffer)
    return buffer.getvalue()


def npz(parts: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def npy(parts: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def rewritten(edit: Callable[[dict[str, Any]], None]) -> Callable[[Any], bytes]:
    """The right file with its header edited as a document."""

    def build(parts: Any) -> bytes:
        header, body = split(parts.dump())
        edit(header)
        return pack(json.dumps(header), body)

    return build


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def pack(header: str, body: bytes) -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + body


def claiming(length: int) -> Callable[[Any], bytes]:
    return lambda parts: struct.pack("<Q", length) + parts.dump()[8:]


def twice(parts: Any) -> bytes:
    header, body = split(parts.dump())
    entry = json.dumps({"head.bias": header["head.bias"]})
    return pack(json.dumps(header)[:-1] + "," + entry[1:], body)


def metadata(value: object) -> Callable[[Any], bytes]:
    return rewritten(lambda header: header.update(__metadata__=value))


UNSUPPORTED, MALFORMED = "unsupported_adapter_format", "adapter_malformed"
HOSTILE: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "a pickle": (pickled, UNSUPPORTED),
    "a .pt file": (torch_zip, UNSUPPORTED),
    "an .npz file": (npz, UNSUPPORTED),
    "an .npy file": (npy, UNSUPPORTED),
    "a GGUF file": (lambda _: b"GGUF\x03\0\0\0" + bytes(64), UNSUPPORTED),
    "an ONNX file": (lambda _: b"\x08\x07\x12\x07pytorch" + bytes(64), UNSUPPORTED),
    "an HTML error page": (lambda _: b"<!DOCTYPE html><html><body>404</body></html>", UNSUPPORTED),
    "a Git LFS pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        UNSUPPORTED,
    ),
    "no bytes": (lambda _: b"", MALFORMED),
    "text": (lambda _: b"this is not an adapter, it is a letter", MALFORMED),
    "zeros": (lambda _: bytes(1000), MALFORMED),
    "a header claim of 1 GB": (claiming(2**30), MALFORMED),
    "a header claim of 2^63": (claiming(2**63), MALFORMED),
    "a header claim of 2^64 - 1": (claiming(2**64 - 1), MALFORMED),
    "a tensor twice": (twice, MALFORMED),
    "a byte too many": (lambda parts: parts.dump() + b"\0", MALFORMED),
    "a second file behind it": (lambda parts: parts.dump() * 2, MALFORMED),
    "no metadata": (rewritten(lambda header: header.pop("__metadata__")), "manifest_missing"),
    "PEFT's metadata": (metadata({"format": "pt"}), "manifest_missing"),
    "an empty manifest": (metadata({"lensmount": ""}), "manifest_invalid"),
    "a manifest that is a list": (metadata({"lensmount": "[]"}), "manifest_invalid"),
    "a manifest 100,000 levels deep": (metadata({"lensmount": "[" * 100_000}), "manifest_invalid"),
    "an unknown dtype": (rewritten(lambda header: header["head.bias"].update(dtype="I32")), "unsupported_dtype"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("nothing_moves")
def test_it_refuses_the_file(name: str, parts: Any, backbone: Backbone) -> None:
    build, code = HOSTILE[name]
    with pytest.raises(AdapterError) as caught:
        admit(build(parts), backbone)
    assert caught.value.code == code
    assert ". Fix: " in str(caught.value)
    assert isinstance(caught.value, AdapterUnsupported) == (code == UNSUPPORTED)


@pytest.mark.usefixtures("nothing_moves")
def test_a_file_cut_at_any_of_500_places_is_refused(parts: Any, backbone: Backbone) -> None:
    data = parts.dump()
    places = [*range(200), *range(200, len(data), len(data) // 300), *range(len(data) - 16, len(data))]
    for place in places:
        with pytest.raises(AdapterMalformed):
            admit(data[:place], backbone)


@pytest.mark.parametrize("length", [2**30, 2**63, 2**64 - 1])
def test_a_header_claim_allocates_nothing(length: int, parts: Any, backbone: Backbone) -> None:
    data = claiming(length)(parts)
    tracemalloc.start()
    with pytest.raises(AdapterMalformed):
        admit(data, backbone)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.usefixtures("nothing_moves")
def test_3000_mutated_files_are_admitted_or_refused_and_nothing_else(parts: Any, backbone: Backbone) -> None:
    """Every file that passes the header check can be read by the safetensors library."""
    rng = random.Random(0)
    data = parts.dump()
    admitted, refused = 0, list[str]()
    for _ in range(3_000):
        mutant = mutated(rng, data)
        try:
            adapter = admit(mutant, backbone)
        except AdapterError as error:
            refused.append(str(error))
        else:
            admitted += 1
            assert safetensors.torch.load(mutant).keys() >= {n for d in adapter.deltas for n in d.tensors()}
    assert admitted > 100
    assert len(refused) > 1_000
    assert [words for words in refused if ". Fix: " not in words] == []


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One to three edits of header or data: a bit flipped, a byte overwritten, bytes cut out or doubled."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = bytearray(data[8 : 8 + length]), bytearray(data[8 + length :])
    for _ in range(rng.randint(1, 3)):
        part = header if rng.random() < 0.6 else body
        at, width = rng.randrange(len(part)), rng.randint(1, 8)
        edit = rng.choice(("flip", "flip", "overwrite", "cut", "double"))
        if edit == "flip":
            part[at] ^= 1 << rng.randrange(8)
        elif edit == "overwrite":
            part[at] = rng.choice(b'0123456789{}[]",:. ')
        elif edit == "cut":
            del part[at : at + width]
        else:
            part[at:at] = part[at : at + width]
    claimed = len(header) if rng.random() < 0.9 else rng.getrandbits(rng.choice((8, 16, 32, 64)))
    mutant = struct.pack("<Q", claimed) + header + body
    return mutant if rng.random() < 0.95 else mutant[: rng.randrange(len(mutant))]


PICKLED_CLASSES: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event == "pickle.find_class":
        PICKLED_CLASSES.append(str(arguments))


def test_no_hostile_file_reaches_the_unpickler(parts: Any, backbone: Backbone) -> None:
    global _watching
    sys.addaudithook(_hook)  # an audit hook cannot be removed, so it records only while this test runs
    evil = pickle.dumps(random.Random(0), protocol=2)  # its classes would be looked up
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", evil)
    files = [build(copy.deepcopy(parts)) for build, _ in HOSTILE.values()]
    _watching = True
    try:
        pickle.loads(evil)
        assert PICKLED_CLASSES, "the hook records nothing"
        PICKLED_CLASSES.clear()
        for data in [*files, evil, archive.getvalue(), struct.pack("<Q", len(evil)) + evil]:
            with pytest.raises(AdapterError):
                admit(data, backbone)
    finally:
        assert PICKLED_CLASSES == []
