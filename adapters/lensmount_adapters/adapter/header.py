"""A strict check of a safetensors header before the library reads it, because the library accepts too much.

safetensors 0.8 accepts duplicate names, unknown fields, leading spaces, empty tensors and names such as
"../../etc/passwd". Format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed, AdapterTooLarge, AdapterUnsupported
from lensmount_adapters.strict import parse_json

_FIX_DTYPE = "Fix: convert a float64 tensor with .float(), leave out counts such as num_batches_tracked"
ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that an adapter file may not exceed. `GET /limits` shows them."""

    max_file_bytes: int = 64 * 2**20
    max_header_bytes: int = 2**20
    max_tensors: int = 4096
    max_name_bytes: int = 256
    max_rank: int = 256  # or the layer's own rank, if that is higher
    max_classes: int = 10_000
    max_delta_ratio: float = (
        10.0  # Frobenius norm of a delta relative to its weight's; that of a new weight is always allowed
    )


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the header: its data are the bytes from `start` to `end` after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The checked header: entries by tensor name, the metadata, and the position in the file where the data begins."""

    entries: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(data: bytes, limits: Limits) -> Header:
    """Check the header of a complete file in memory. Sizes that the header claims are never allocated.

    Raises AdapterUnsupported (another format), AdapterTooLarge (over a limit), AdapterMalformed (anything else).
    """
    _sniff(data)
    if len(data) > limits.max_file_bytes:
        raise AdapterTooLarge(
            f"found {len(data)} bytes, expected at most {limits.max_file_bytes}. "
            "Fix: write the file in float16, or replace full deltas by low-rank factors"
        )
    if len(data) < 8:
        _malformed(f"found {len(data)} bytes, expected at least the 8 of the header's length")
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        _malformed(f"the header claims {length} bytes, the file has {len(data) - 8} left; the file may be cut short")
    if length > limits.max_header_bytes:
        raise AdapterTooLarge(
            f"found a header of {length} bytes, expected at most {limits.max_header_bytes}. Fix: store fewer tensors, "
            "or less under `training` in the manifest",
            code="adapter_header_too_large",
        )
    tensors = _parse(data[8 : 8 + length])
    metadata = _metadata(tensors.pop("__metadata__", {}))
    if len(tensors) > limits.max_tensors:
        raise AdapterTooLarge(
            f"found {len(tensors)} tensors, expected at most {limits.max_tensors}. Fix: adapt fewer modules",
            code="adapter_too_many_tensors",
        )
    if not tensors:
        _malformed("found no tensor, expected at least a head", code="adapter_empty")
    entries = {name: _entry(name, fields, limits) for name, fields in tensors.items()}
    _contiguous(entries, len(data) - 8 - length)
    return Header(entries, metadata, 8 + length)


_REWRITE = "Fix: download or copy the file again; if that does not help, write it with the safetensors library"
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a zip archive (a .pt, .bin or .npz file)"),
    (b"\x80", "a pickle"),
    (b"\x93NUMPY", "a .npy array"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"),
    (b"<", "HTML or XML: perhaps a download's error page"),
    (b"\x08", "an ONNX or protobuf file"),
)


def _sniff(data: bytes) -> None:
    """Recognise well-known other formats. A safetensors file has `{` after its 8-byte length."""
    if data[8:9] == b"{":
        return
    for magic, format_name in _OTHER_FORMATS:
        if data.startswith(magic):
            raise AdapterUnsupported(
                f"found {format_name}, expected a safetensors file. Fix: save the adapter as safetensors"
            )


def _parse(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        _malformed("found a header that does not begin with '{', expected a JSON object")
    try:
        value = parse_json(text.decode("utf-8"), parse_int=_natural)
    except UnicodeDecodeError as error:
        raise AdapterMalformed(f"found a header that is not UTF-8 (byte {error.start}). {_REWRITE}") from error
    except (ValueError, RecursionError) as error:
        raise AdapterMalformed(f"found a header that is not strict JSON: {str(error)[:160]}. {_REWRITE}") from error
    if not isinstance(value, dict):
        _malformed("found a header that is not a JSON object")
    return value


def _natural(text: str) -> int:
    if text.startswith("-"):
        raise ValueError(f"found {text[:20]}, expected a number that is not negative")
    return int(text)


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _malformed("found __metadata__ that is not an object of strings")
    return dict(value)


def _entry(name: str, fields: object, limits: Limits) -> TensorEntry:
    shown_name = repr(name[:80])
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) > limits.max_name_bytes or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", name) or ".." in name:
        raise AdapterInvalid(
            f"found the tensor name {shown_name}, expected a dotted module path of at most {limits.max_name_bytes} "
            "bytes. Fix: name it after a module of the backbone, such as layer4.0.conv1.lora_A.weight",
            code="adapter_unknown_target",
        )
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        _malformed(f"{shown_name}: expected exactly the fields dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
        raise AdapterInvalid(
            f"{shown_name}: found dtype {str(dtype)[:20]!r}, expected F32, F16 or BF16. {_FIX_DTYPE}",
            code="unsupported_dtype",
        )
    if not _integers(shape) or len(shape) > 5:
        _malformed(f"{shown_name}: found a shape that is not a list of at most 5 whole numbers")
    if not _integers(offsets) or len(offsets) != 2:
        _malformed(f"{shown_name}: found data_offsets that are not two whole numbers")
    if 0 in shape:
        _malformed(f"{shown_name}: found shape {shape}, expected no empty tensor (a rank of 0?)", code="empty_tensor")
    start, end = offsets
    if end - start != math.prod(shape) * ITEM_SIZE[dtype]:
        _malformed(f"{shown_name}: shape {str(shape)[:80]} in {dtype} does not fill its data_offsets")
    return TensorEntry(dtype, tuple(shape), start, end)


def _integers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


def _contiguous(entries: dict[str, TensorEntry], size: int) -> None:
    """Check that the tensors fill the data exactly: no overlap, no gap, nothing after the last one."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != position:
            _malformed(f"{name[:80]!r}: found data at {entry.start}, expected {position}: an overlap or a gap")
        position = entry.end
    if position != size:
        _malformed(f"found {size} bytes of data, the header describes {position}; the file may be cut short")


def _malformed(message: str, *, code: str | None = None) -> NoReturn:
    raise AdapterMalformed(f"{message}. {_REWRITE}", code=code)
