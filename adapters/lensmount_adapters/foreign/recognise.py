"""What a file is, from its first bytes and the names in it, and the command that helps with it.

Nothing of a file runs here, and no more of it is parsed than the names of its tensors or entries.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lensmount_adapters.foreign.lycoris import is_lycoris

MAX_HEADER_BYTES = 16 * 2**20  # of a safetensors file; a network of 10,000 tensors needs 1.5 MB
MAX_ENTRIES = 4096  # of a zip file, whose names are read
CONFIG = "adapter_config.json"
_IMPORT = "Fix: lensmount adapters import {}"
EXTRACT = "lensmount adapters extract FILE --base NAME --rank 16 --labels A,B"
_RESAVE = "Fix: save the tensors with safetensors.torch.save_file(model.state_dict(), FILE), and import that"
_EXPORTED = (
    "Fix: it holds a program without named weights; import or extract from the checkpoint that it was exported from"
)
_UNPACK = "Fix: unpack it, and import what is in it"
_DOWNLOAD = "Fix: download the file again"


@dataclass(frozen=True, slots=True)
class Found:
    """What a file is. `importable` is True if `lensmount adapters import` may read it."""

    words: str
    fix: str
    importable: bool = False

    def __str__(self) -> str:
        return f"found {self.words}, expected an adapter file of Lensmount. {self.fix}"


PEFT_FILE = Found("an adapter of PEFT", _IMPORT.format("FOLDER (the folder that also holds adapter_config.json)"), True)
PEFT_ZIP = Found("a zip file with an adapter of PEFT", _IMPORT.format("FILE.zip"), True)
LYCORIS_FILE = Found("an adapter of LyCORIS or kohya's scripts", _IMPORT.format("FILE"), True)
TORCH_FILE = Found(
    "a file of torch.save (.bin, .pt, .pth, .ckpt)",
    _IMPORT.format(f"FILE, if it is an adapter; for the weights of a whole network {EXTRACT}"),
    True,
)
CONFIG_ALONE = Found(
    f"PEFT's {CONFIG} without the weights",
    _IMPORT.format("FOLDER, the folder that also holds adapter_model.safetensors"),
)
NETWORK = Found("the weights of a whole network", f"Fix: {EXTRACT}")
DIFFUSERS = Found(
    "an adapter for an image generator (diffusers), whose modules no backbone here has",
    "Fix: import an adapter of an image classifier",
)

_MAGIC: tuple[tuple[bytes, int, Found], ...] = (
    (b"\x93NUMPY", 0, Found("an array of NumPy (.npy)", _RESAVE)),
    (b"\x89HDF\r\n\x1a\n", 0, Found("an HDF5 file, as Keras and TensorFlow write it (.h5)", _RESAVE)),
    (b"GGUF", 0, Found("a GGUF file, as llama.cpp reads it", _EXPORTED)),
    (b"TFL3", 4, Found("a TensorFlow Lite program (.tflite)", _EXPORTED)),
    (b"version https://git-lfs", 0, Found("a pointer of Git LFS, not the file itself", "Fix: run git lfs pull")),
    (b"\x1f\x8b", 0, Found("a gzip file", _UNPACK)),
    (b"ustar", 257, Found("a tar archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", 0, Found("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", 0, Found("a RAR archive", _UNPACK)),
    (b"BZh", 0, Found("a bzip2 file", _UNPACK)),
    (b"\xfd7zXZ\x00", 0, Found("an xz file", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", 0, Found("a Zstandard file", _UNPACK)),
    (b"<?xml", 0, Found("XML, such as OpenVINO's description of a program", _EXPORTED)),
    (b"<", 0, Found("a web page, perhaps of a download that failed", _DOWNLOAD)),
    (b"\x89PNG", 0, Found("a PNG image", "Fix: send images to /predict")),
    (b"\xff\xd8\xff", 0, Found("a JPEG image", "Fix: send images to /predict")),
    (b"%PDF", 0, Found("a PDF document", _DOWNLOAD)),
)
_OF_PEFT = (
    *("lora_", "hada_", "lokr_", "oft_", "boft_", "hra_", "ia3_", "miss_", "shira_", "vera_", "vblora_", "randlora_"),
    *("fourierft_", "waveft_", "c3a_", "delora_", "hira_", "gralora_", "road_", "ln_tuning_", "modules_to_save"),
    *("glora_", "deft_", "beft_", "peanut_", "osf_", "frod_", "pvera_", "tinylora_", "unilora_", "supertuning_"),
    *("psoft_", "adamss_", "lily_", "prompt_", "trainable_tokens_"),
)
"""How the names of PEFT's parameters begin."""
_PICKLE = Found(
    "a pickle of Python objects, perhaps of a whole model, and to read it can run code",
    _RESAVE,
)
_SAVED_MODEL = Found("a SavedModel of TensorFlow (saved_model.pb)", _EXPORTED)
_ONNX = Found("an ONNX program", _EXPORTED)


def recognise(data: bytes) -> Found | None:
    """What the bytes are; None for an adapter file of Lensmount, and for what is not known."""
    if data[8:9] == b"{":
        return _safetensors(data)
    if data.startswith(b"PK\x03\x04"):
        return _zip(data)
    for magic, start, found in _MAGIC:
        if data[start : start + len(magic)] == magic:
            return found
    if data.lstrip()[:1] == b"{":
        return _json(data)
    if data.startswith(b"\x80"):
        is_torch = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in data[:16]  # torch.save before 1.6 begins with this number
        return TORCH_FILE if is_torch else _PICKLE
    if data[:1] == b"\x08" and len(data) > 2:
        return _SAVED_MODEL if data[1] == 1 else _ONNX
    return None


def named(names: Iterable[str]) -> Found:
    """What a file with tensors of these names is."""
    names = list(names)
    if any(name.startswith(("unet.", "text_encoder", "transformer.", "lora_te", "lora_unet_down")) for name in names):
        return DIFFUSERS
    if is_lycoris(names):
        return LYCORIS_FILE
    if any(_is_of_peft(name) for name in names):
        return PEFT_FILE
    return NETWORK


def safetensors_header(data: bytes) -> Mapping[str, Any] | None:
    """The header of a safetensors file as JSON; None if there is no such header."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(len(data) - 8, MAX_HEADER_BYTES):
        return None
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _safetensors(data: bytes) -> Found | None:
    header = safetensors_header(data)
    if header is None:
        return None
    metadata = header.get("__metadata__")
    names = [name for name in header if name != "__metadata__"]
    if not names or (isinstance(metadata, dict) and "lensmount" in metadata):
        return None
    return named(names)


def _zip(data: bytes) -> Found:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()[:MAX_ENTRIES]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return Found("a damaged zip file", "Fix: copy or download the file again")
    lasts = {name.rpartition("/")[2] for name in names}
    if CONFIG in lasts:
        return PEFT_ZIP
    if "constants.pkl" in lasts or any("/code/" in name for name in names):
        return Found("a program of TorchScript", _EXPORTED)
    if "serialized_exported_program.json" in lasts or any(name.endswith("archive_format") for name in names):
        return Found("a program of torch.export", _EXPORTED)
    if "data.pkl" in lasts:
        return TORCH_FILE
    if any(name.endswith(".h5") for name in lasts):
        return Found("a model of Keras (.keras)", _RESAVE)
    if lasts and all(name.endswith(".npy") for name in lasts):
        return Found("arrays of NumPy (.npz)", _RESAVE)
    weights = [name for name in lasts if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt"))]
    if weights:
        return Found(f"a zip file with weights ({sorted(weights)[0][:80]})", _IMPORT.format("FILE.zip"), True)
    return Found("a zip file without weights", f"Fix: pack {CONFIG} and adapter_model.safetensors")


def _json(data: bytes) -> Found | None:
    if len(data) > MAX_HEADER_BYTES:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and "peft_type" in value:
        return CONFIG_ALONE
    return Found("a JSON document", "Fix: send the file with the weights")


def _is_of_peft(name: str) -> bool:
    return name.startswith("base_model.") or any(piece.startswith(_OF_PEFT) for piece in name.split("."))
