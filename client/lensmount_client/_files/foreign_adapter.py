"""An adapter of another tool on this machine, packed into one zip file for the server, which converts it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import is_file, is_folder, read_file

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
LABELS = "labels.json"
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def packed(path: Path, labels: Sequence[str] = (), head: Path | None = None) -> bytes:
    """The bytes of a zip file with the adapter: a folder's config and weights, or one file.

    A file that is named like PEFT's takes the config next to it along. A zip file goes as it is, unless labels or a
    head are added to it. Raises InvalidInput for a folder without weights, and for what cannot be read.
    """
    if not labels and head is None and _is_zip(path):
        return read_file(path)
    parts = _folder(path) if is_folder(path) else _file(path)
    if labels:
        parts[LABELS] = json.dumps(list(labels), ensure_ascii=False).encode()
    if head is not None:
        parts[f"head{head.suffix or '.safetensors'}"] = read_file(head)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def foreign_name(path: Path) -> str:
    """The name of an adapter: that of its folder, also for a file that is called as PEFT calls every file."""
    path = path.resolve()
    return path.name if is_folder(path) else path.parent.name if path.name in (*WEIGHTS, CONFIG) else path.stem


def _folder(folder: Path) -> dict[str, bytes]:
    names = [name for name in (CONFIG, *WEIGHTS, LABELS) if (folder / name).is_file()]
    if WEIGHTS[0] in names and WEIGHTS[1] in names:
        names.remove(WEIGHTS[1])  # the same tensors in the older format
    others = sorted(path.name for path in folder.iterdir() if path.suffix in _ENDINGS and path.name not in names)
    if not set(WEIGHTS) & set(names):
        names += others
    else:
        names += [name for name in others if name.startswith("head.")]
    if not any(name.endswith(_ENDINGS) for name in names):
        below = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        fix = f"import {folder / below[0]}" if below else f"choose the folder with {CONFIG} and {WEIGHTS[0]}"
        raise InvalidInput(f"{folder}: found no weights, expected {WEIGHTS[0]} or another file with them. Fix: {fix}")
    return {name: read_file(folder / name) for name in names}


def _file(path: Path) -> dict[str, bytes]:
    if _is_zip(path):
        return _unpacked(path, read_file(path))
    data = read_file(path)
    parts = {path.name if path.suffix in _ENDINGS else f"{path.name}.safetensors": data}
    if path.name == CONFIG:
        parts = _folder(path.parent)
    elif path.name in WEIGHTS and is_file(path.parent / CONFIG):
        parts[CONFIG] = read_file(path.parent / CONFIG)
    return parts


def _is_zip(path: Path) -> bool:
    """Return True for a zip file, but not for a file of torch.save, which is one as well."""
    return is_file(path) and path.suffix not in _ENDINGS and read_file(path)[:4] == b"PK\x03\x04"


def _unpacked(path: Path, data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidInput(
            f"{path}: found a damaged zip file ({error}), expected a whole one. Fix: pack it again"
        ) from error
