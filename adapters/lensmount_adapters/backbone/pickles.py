"""Read what `torch.save` wrote, without running any code of the file: tensors, containers, numbers and texts."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy
import torch

from lensmount_adapters.errors import AdapterMalformed, AdapterTooLarge, AdapterUnsupported

MAX_BYTES = 16 * 2**30  # of a file, and of what it unpacks to
_PICKLES_OF_OLD_FILES = 5  # before torch 1.6: a magic number, the version, the system, the object, the storages
_SCALAR = numpy._core.multiarray.scalar  # type: ignore[attr-defined]  # how numpy pickles a number, such as a metric
_HARMLESS = [
    argparse.Namespace,  # the options of timm's training script
    numpy.dtype,
    *(type(numpy.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")),
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before numpy 2
]
_OTHER_CALLS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
DAMAGED = (
    ValueError,
    IndexError,
    OverflowError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
)
_ERRORS = (RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, MemoryError)


def load_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Return the contents of a .pt, .pth, .bin, .ckpt or .pth.tar file, with tensors on the CPU.

    Raises AdapterTooLarge before memory is taken, AdapterUnsupported for objects other than tensors and plain values,
    and AdapterMalformed for a damaged file.
    """
    _check_size(path, max_bytes)
    _check_calls(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about sparse tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except _ERRORS as error:
        raise AdapterMalformed(
            f"{path.name}: found a damaged file ({str(error).partition(chr(10))[0][:160]}), expected what torch.save "
            "writes. Fix: copy or download it again"
        ) from error


def _check_size(path: Path, max_bytes: int) -> None:
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise AdapterMalformed(
                f"{path.name}: found a damaged zip archive ({str(error)[:120]}), expected what torch.save writes. "
                "Fix: copy or download it again"
            ) from error
    if size > max_bytes:
        raise AdapterTooLarge(
            f"{path.name}: found {size} bytes, expected at most {max_bytes}. Fix: save the weights alone, without the "
            "optimizer, as safetensors"
        )


def called_by(file: IO[bytes]) -> Iterator[str]:
    """Look through the pickles of a file of torch.save, without running them, and yield what each would call.

    A call is "torch._utils _rebuild_tensor_v2", or "another kind" if newer pickles compute its name. Raises one of
    DAMAGED for a file that is none of torch.save.
    """
    for pickled in _pickles(file):
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "GLOBAL":
                yield str(argument)
            elif opcode.name in _OTHER_CALLS:
                yield "another kind"


def _pickles(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The .pkl entries of a zip file, or the pickles at the start of an older file."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as pickled:
                        yield pickled
        return
    file.seek(0)
    for _ in range(_PICKLES_OF_OLD_FILES):
        yield file


def _check_calls(path: Path) -> None:
    """Refuse a bytearray, which torch reads and which may be of any size. torch itself refuses what is damaged."""
    with contextlib.suppress(*DAMAGED), path.open("rb") as file:
        for call in called_by(file):
            if call.endswith(" bytearray"):
                raise _refusal(path, "GLOBAL builtins.bytearray")


def _refusal(path: Path, message: str) -> AdapterUnsupported | AdapterMalformed:
    found = re.search(r"GLOBAL ([\w.]+)", message)
    if found is None:
        return AdapterMalformed(
            f"{path.name}: found a pickle that cannot be read, expected what torch.save writes. Fix: save the "
            "network's state_dict() with safetensors.torch.save_file"
        )
    return AdapterUnsupported(
        f"{path.name}: found an object of {found[1][:100]} in it, expected tensors and plain values only: to read "
        "other objects can run code. Fix: open the file where it was written and save the network's state_dict() with "
        "torch.save or safetensors.torch.save_file"
    )
