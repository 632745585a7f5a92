"""What a user brings to import: a folder, a zip file or one file, read into tensors, options and a head."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed, AdapterTooLarge, AdapterUnsupported
from lensmount_adapters.foreign.recognise import (
    CONFIG,
    DIFFUSERS,
    NETWORK,
    PEFT_FILE,
    named,
    recognise,
    safetensors_header,
)
from lensmount_adapters.foreign.torch_file import read_torch
from lensmount_adapters.strict import parse_json
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive

MAX_BYTES = 512 * 2**20  # of everything that is read
MAX_CONFIG_BYTES = 4 * 2**20
MAX_TENSORS = 20_000
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
LABELS = "labels.json"
HEADS = ("head.safetensors", "head.bin", "head.pth", "head.pt")
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter of another tool: its tensors, PEFT's options, and the head that was given with it.

    `labels` are those of a labels.json next to it. `digest` is the SHA-256 of the file with the weights. `notes` say
    what was chosen or passed over.
    """

    tool: Literal["peft", "lycoris"]
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    digest: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a folder or zip file by their relative paths, and how to read one."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


def read_source(what: Path | bytes, max_bytes: int = MAX_BYTES) -> Source:
    """Read a folder, a zip file, or one file, given as a path or as bytes.

    Raises AdapterUnsupported that names what it is and the command that helps, AdapterTooLarge, AdapterMalformed,
    AdapterInvalid for an adapter_config.json that cannot be read, and ArchiveInvalid for a hostile zip file.
    """
    if isinstance(what, Path) and what.is_dir():
        return _from_files(_folder(what, max_bytes))
    if isinstance(what, Path):
        beside = what.parent / CONFIG
        config = _config(beside.read_bytes()) if what.name in WEIGHTS and beside.is_file() else None
        data = _file(what, max_bytes)
    else:
        data, config = what, None
    found = recognise(data)
    if found is not None and not found.importable:
        raise AdapterUnsupported(str(found).replace("an adapter file of Lensmount", "an adapter to import"))
    if found is not None and "zip" in found.words:
        return _from_zip(data, max_bytes)
    return _from_bytes(data, config, max_bytes)


def read_tensors(data: bytes, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a safetensors file or a file of torch.save, and notes on what was passed over."""
    if len(data) > max_bytes:
        raise AdapterTooLarge(f"found {len(data)} bytes, expected at most {max_bytes}. Fix: save the adapter alone")
    if data[8:9] != b"{":
        found = recognise(data)
        if found is None or not found.importable:
            words = "a file of an unknown kind" if found is None else found.words
            fix = "Fix: import a safetensors file" if found is None else found.fix
            raise AdapterUnsupported(f"found {words}, expected an adapter to import. {fix}")
        return read_torch(data, max_bytes)
    header = safetensors_header(data)
    if header is not None and len(header) > MAX_TENSORS:
        raise AdapterTooLarge(
            f"found {len(header)} tensors, expected at most {MAX_TENSORS}. Fix: save the adapter alone"
        )
    try:
        return safetensors.torch.load(data), []
    except (safetensors.SafetensorError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        raise AdapterMalformed(
            f"found a damaged safetensors file ({str(error)[:160]}). Fix: copy or download it again"
        ) from error


def _from_bytes(data: bytes, config: Mapping[str, Any] | None, max_bytes: int) -> Source:
    tensors, notes = read_tensors(data, max_bytes)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if config is not None:
        return Source("peft", tensors, config, digest=digest, notes=tuple(notes))
    header = safetensors_header(data) if data[8:9] == b"{" else None
    if header is not None and "lensmount" in (header.get("__metadata__") or {}):
        raise AdapterUnsupported(
            "found an adapter file of Lensmount, expected one of another tool. Fix: lensmount adapters push FILE"
        )
    kind = named(tensors)
    if kind is PEFT_FILE and not any(name.endswith(".alpha") for name in tensors):
        raise AdapterUnsupported(
            f"found an adapter of PEFT without {CONFIG}, which holds the scale of its factors, expected both. "
            "Fix: lensmount adapters import FOLDER, or send both in a zip file"
        )
    if kind in (NETWORK, DIFFUSERS):
        raise AdapterUnsupported(f"found {kind.words}, expected an adapter to import. {kind.fix}")
    return Source("lycoris", tensors, digest=digest, notes=tuple(notes))


def _from_zip(data: bytes, max_bytes: int) -> Source:
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(data)
        file.flush()
        limits = ArchiveLimits(max_entries=4096, max_total_bytes=2 * max_bytes, max_entry_bytes=max_bytes)
        archive = open_archive(Path(file.name), limits)
        return _from_files(_Files(_relevant(archive.entries), archive.read), max_bytes)


def _folder(folder: Path, max_bytes: int) -> _Files:
    found = [path for path in (*folder.glob("*"), *folder.glob("*/*"), *folder.glob("*/*/*")) if path.is_file()]
    names = _relevant(path.relative_to(folder).as_posix() for path in found)
    return _Files(names, lambda name: _file(folder / name, max_bytes))


def _relevant(names: Any) -> tuple[str, ...]:
    """The names without those that macOS adds to a zip file."""
    return tuple(sorted(name for name in names if "__MACOSX" not in name and "._" not in name.rpartition("/")[2][:2]))


def _file(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        raise AdapterUnsupported(f"{path}: found no such file, expected an adapter. Fix: check the path")
    if path.stat().st_size > max_bytes:
        raise AdapterTooLarge(
            f"{path.name}: found {path.stat().st_size} bytes, expected at most {max_bytes}. Fix: save the adapter alone"
        )
    return path.read_bytes()


def _from_files(files: _Files, max_bytes: int = MAX_BYTES) -> Source:
    """Read the adapter of a folder: the one at the top, or the only one in a folder below."""
    configs = [name for name in files.names if PurePosixPath(name).name == CONFIG]
    top = min((len(PurePosixPath(name).parts) for name in configs), default=0)
    chosen = [name for name in configs if len(PurePosixPath(name).parts) == top]
    if len(chosen) > 1:
        folders = ", ".join(str(PurePosixPath(name).parent) for name in chosen)[:200]
        raise AdapterUnsupported(
            f"found {len(chosen)} adapters ({folders}), expected one. Fix: import each by its own folder, such as "
            f"lensmount adapters import FOLDER/{PurePosixPath(chosen[0]).parent}"
        )
    folder = PurePosixPath(chosen[0]).parent if chosen else PurePosixPath()
    notes = [f"left out the adapter in {PurePosixPath(name).parent}: import it by its own folder" for name in configs]
    notes = [note for note, name in zip(notes, configs, strict=True) if name not in chosen]
    weights = _weights(files, folder, bool(chosen))
    config = _config(files.read(chosen[0])) if chosen else None
    data = files.read(weights)
    source = _from_bytes(data, config, max_bytes)
    heads = [name for name in files.names if PurePosixPath(name).name in HEADS]
    head = read_tensors(files.read(heads[0]), max_bytes)[0] if heads else {}
    labels = next((_labels(files.read(name)) for name in files.names if PurePosixPath(name).name == LABELS), ())
    return Source(source.tool, source.tensors, source.config, head, labels, source.digest, (*source.notes, *notes))


def _weights(files: _Files, folder: PurePosixPath, is_peft: bool) -> str:
    """The file with the weights."""
    for usual in WEIGHTS:
        if (name := str(folder / usual)) in files.names:
            return name
    inside = [PurePosixPath(name) for name in files.names if not is_peft or PurePosixPath(name).parent == folder]
    others = [str(path) for path in inside if path.suffix in _ENDINGS and path.name not in HEADS]
    if len(others) != 1:
        found = ", ".join(others)[:200] or ", ".join(files.names)[:200] or "nothing"
        raise AdapterUnsupported(
            f"found {found}, expected {WEIGHTS[0]} or one other file with weights. "
            "Fix: import the folder that save_pretrained wrote, or one file"
        )
    return others[0]


def _labels(data: bytes) -> tuple[str, ...]:
    try:
        value = parse_json(data[: MAX_CONFIG_BYTES + 1].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterInvalid(
            f"{LABELS}: found no strict JSON ({str(error)[:120]}). Fix: write a list of names"
        ) from error
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise AdapterInvalid(f"{LABELS}: found no list of texts, expected one name for each class. Fix: write it so")
    return tuple(value)


def _config(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise AdapterTooLarge(
            f"{CONFIG}: found {len(data)} bytes, expected at most {MAX_CONFIG_BYTES}. Fix: save it again"
        )
    try:
        value = parse_json(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterInvalid(
            f"{CONFIG}: found no strict JSON ({str(error)[:120]}). Fix: save the adapter again"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("peft_type"), str):
        raise AdapterInvalid(
            f"{CONFIG}: found no peft_type, expected the options of an adapter of PEFT. Fix: save the adapter again"
        )
    return value
