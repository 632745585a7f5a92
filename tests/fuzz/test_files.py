"""Mutated files of every kind are read or refused: no other exception, no hang, and no memory without bound.

`make soak` runs the full counts of the same code.
"""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from tests.fuzz.mutate import cases, changed, mutated
from tests.fuzz.watch import watched

from lensmount_adapters import Limits, Manifest, decode_image
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.header import read_header
from lensmount_adapters.adapter.manifest_check import check_numbers, check_texts
from lensmount_adapters.errors import AdapterError, DatasetError, ImageError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive

MANIFEST: dict[str, Any] = {
    "name": "trees",
    "method": "lora",
    "backbone": {"name": "resnet10t", "fingerprint": "sha256:" + "ab" * 32},
    "preprocessing": {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "labels": ["oak", "elm"],
    "head": {"kind": "linear", "temperature": 1.25},
    "modules": {"layer4.0.conv1": {"rank": 2, "alpha": 4.0}},
    "training": {"author": "someone", "history": [{"epoch": 1, "loss": 0.5}]},
}


def adapter(manifest: Any = MANIFEST) -> bytes:
    tensors = {"head.weight": torch.zeros(2, 4), "head.bias": torch.zeros(2), "a.b.lora_A.weight": torch.ones(2, 3)}
    data: bytes = safetensors.torch.save(tensors, metadata={"lensmount": json.dumps(manifest)})
    return data


def with_changed_header(data: bytes, draw: random.Random) -> bytes:
    """The file with a header that is still JSON, but says something else."""
    length = struct.unpack("<Q", data[:8])[0]
    header = changed(json.loads(data[8 : 8 + length]), draw)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text) + draw.choice((0, 0, 0, 0, -1, 1))) + text + data[8 + length :]


def attempts(seed: int, data: bytes) -> bytes:
    draw = random.Random(seed)
    return with_changed_header(data, draw) if draw.random() < 0.6 else mutated(data, draw)


def test_what_we_accept_of_an_adapter_the_safetensors_library_accepts_with_the_same_tensors() -> None:
    """The two parsers may not differ: ours reads the header, and the library's reads the tensors."""
    base, accepted, read = adapter(), 0, 0
    with watched("adapter files") as watch:
        for seed in cases(30_000, 500_000):
            watch.touch()
            data = attempts(seed, base)
            try:
                header = read_header(data, Limits())
            except AdapterError:
                continue
            accepted += 1
            tensors = safetensors.torch.load(data)  # raises if the library refuses what we accept
            assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
                name: entry.shape for name, entry in header.entries.items()
            }, seed
            try:
                parse_adapter(data)
                read += 1
            except AdapterError:
                pass
    assert accepted > 100  # the mutations are not all refused by the first check
    assert read > 10


def test_mutated_manifests_are_read_or_refused_with_a_small_printable_message() -> None:
    read, longest = 0, 0
    with watched("manifests") as watch:
        for seed in cases(8_000, 100_000):
            watch.touch()
            draw = random.Random(seed)
            document = MANIFEST
            for _ in range(draw.randint(1, 3)):
                document = changed(document, draw)
            text = json.dumps(document)
            if draw.random() < 0.2:
                text = mutated(text.encode(), draw).decode("utf-8", "replace")
            try:
                manifest = Manifest.parse(text)
                check_numbers(manifest)
                check_texts(manifest)
                read += 1
            except AdapterError as error:
                longest = max(longest, len(str(error)))
    assert longest < 2000
    assert read > 10


def picture(kind: str, **options: Any) -> Callable[[], bytes]:
    def draw() -> bytes:
        pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
        return buffer.getvalue()

    return draw


PICTURES = {
    "PNG": picture("PNG"),
    "JPEG": picture("JPEG"),
    "progressive JPEG": picture("JPEG", progressive=True),
    "TIFF": picture("TIFF"),
    "TIFF with LZW": picture("TIFF", compression="tiff_lzw"),
    "TIFF with deflate": picture("TIFF", compression="tiff_adobe_deflate"),
    "WebP": picture("WEBP"),
    "GIF": picture("GIF"),
    "BMP": picture("BMP"),
    "JPEG 2000": picture("JPEG2000"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_mutated_images_are_decoded_or_refused(kind: str) -> None:
    base, decoded, longest = PICTURES[kind](), 0, 0
    with watched(f"images ({kind})") as watch, warnings.catch_warnings():
        warnings.simplefilter("error")  # a decoder that only warns has guessed
        for seed in cases(800, 10_000):
            watch.touch()
            try:
                decode_image(mutated(base, random.Random(seed)), ImageLimits(2**20, 2**20))
                decoded += 1
            except ImageError as error:
                longest = max(longest, len(str(error)))
    assert longest < 2000
    assert decoded < len(cases(800, 10_000))


def test_a_tiff_that_states_hundreds_of_depths_is_refused_in_a_few_words() -> None:
    """Seed 8134 of the mutated TIFFs: the message listed every depth in the file."""
    with pytest.raises(ImageError, match="different depths") as caught:
        decode_image(mutated(PICTURES["TIFF"](), random.Random(8134)), ImageLimits(2**20, 2**20))

    assert len(str(caught.value)) < 500


def test_mutated_zip_files_are_read_or_refused(tmp_path: Path) -> None:
    bases = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
            for name in ("cat/1.png", "dog/2.png", "manifest.csv"):
                archive.writestr(name, name * 20)
        bases.append(buffer.getvalue())
    limits = ArchiveLimits(max_entries=50, max_total_bytes=2**20, max_entry_bytes=2**16)
    path, read, longest = tmp_path / "a.zip", 0, 0
    with watched("zip files") as watch:
        for seed in cases(4_000, 50_000):
            watch.touch()
            draw = random.Random(seed)
            path.write_bytes(mutated(draw.choice(bases), draw))
            try:
                found = open_archive(path, limits)
                for name in found.entries:
                    assert len(found.read(name)) <= limits.max_entry_bytes
                read += 1
            except DatasetError as error:
                longest = max(longest, len(str(error)))
    assert longest < 2000
    assert read > 10
    assert list(tmp_path.iterdir()) == [path]
