from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import InvalidInput
from lensmount_client._files.adapter_file import read_adapter_file


def written(path: Path, header: Any, tail: bytes = b"") -> Path:
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + tail)
    return path


def test_a_file_of_the_safetensors_library_is_read_without_it(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    path = tmp_path / "a.safetensors"
    tensors = {"x.lora_A.weight": numpy.zeros((4, 8), "float32"), "s": numpy.zeros((), "float32")}
    save_file(tensors, path, metadata={"lensmount": json.dumps({"method": "lora"})})
    adapter = read_adapter_file(path)
    assert (adapter.manifest, adapter.parameters) == ({"method": "lora"}, 33)
    assert adapter.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    "content",
    [b"x", b"\xff" * 8, b"\xff" * 100, struct.pack("<Q", 3) + b"{}", struct.pack("<Q", 4) + b"nope", bytes(8)],
)
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a safetensors file"):
        read_adapter_file(tmp_path / "a")


@pytest.mark.parametrize(
    "header",
    [{}, {"__metadata__": {}}, {"__metadata__": {"lensmount": "{"}}, {"__metadata__": {"lensmount": "{}"}, "x": 3}],
)
def test_a_file_without_a_manifest_is_not_an_adapter(header: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="manifest"):
        read_adapter_file(written(tmp_path / "a", header))


def test_headers_and_manifests_that_are_not_objects_are_refused(tmp_path: Path) -> None:
    headers: list[Any] = [[], {"__metadata__": {"lensmount": "[]"}}]
    for header in headers:
        with pytest.raises(InvalidInput):
            read_adapter_file(written(tmp_path / "a", header))
