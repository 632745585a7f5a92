"""Tensors in a file of torch.save that comes from outside: no code runs, and no more memory is taken than the file has.

torch's reader with `weights_only` runs no code of the file, but some of what it may call allocates any amount of memory
(`bytearray(10**12)`). So the pickle is looked through first, and only what a state dict needs is let through.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.backbone.pickles import DAMAGED, called_by
from lensmount_adapters.errors import AdapterMalformed, AdapterTooLarge, AdapterUnsupported

_NEEDED = frozenset(
    {
        "collections OrderedDict",
        "torch Size",
        "torch.nn.parameter Parameter",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch.storage UntypedStorage",
        *(
            f"torch {kind}Storage"
            for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
        ),
    }
)
_ENTRIES = ("state_dict", "model_state_dict", "model", "module", "ema_model", "state_dict_ema")
MAX_PICKLE_BYTES = 64 * 2**20


def read_torch(data: bytes, max_bytes: int) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by name, and notes on what was passed over.

    Raises AdapterUnsupported for other objects than tensors, AdapterTooLarge for more than `max_bytes` of them, and
    AdapterMalformed for a damaged file.
    """
    _check_calls(data, max_bytes)
    try:
        contents = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's reader raises errors of many kinds on a damaged file
        raise AdapterMalformed(
            f"found a damaged file of torch.save ({type(error).__name__}), expected tensors by name. "
            "Fix: copy or download it again"
        ) from error
    state, notes = _state_dict(contents)
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise AdapterUnsupported(
            f"found a file of torch.save with a {type(contents).__name__}, expected tensors by name. "
            "Fix: save model.state_dict(), or the adapter with save_pretrained"
        )
    if others := [str(name)[:60] for name in state if name not in tensors]:
        notes.append(f"left out {len(others)} entries other than tensors, such as {others[0]!r}")
    _check_tensors(tensors, max_bytes)
    return tensors, notes


def _state_dict(contents: object) -> tuple[Mapping[str, Any], list[str]]:
    """Find the state dict in a training script's or Lightning's checkpoint."""
    if not isinstance(contents, Mapping):
        return {}, []
    if any(isinstance(value, Tensor) for value in contents.values()):
        return contents, []
    for key in _ENTRIES:
        inner = contents.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            others = ", ".join(sorted(str(name)[:40] for name in contents if name != key)[:6])
            return inner, [f"took the entry {key!r} of the checkpoint" + (f" and left out {others}" if others else "")]
    return {}, []


def _check_calls(data: bytes, max_bytes: int) -> None:
    """Refuse what a state dict does not need, before anything is unpickled."""
    try:
        if data.startswith(b"PK\x03\x04"):
            _check_entries(data, max_bytes)
        for call in called_by(io.BytesIO(data)):
            if call not in _NEEDED:
                raise _whole_object(call)
    except DAMAGED as error:
        raise AdapterMalformed(
            f"found a damaged file of torch.save ({type(error).__name__}), expected tensors by name. "
            "Fix: copy or download it again"
        ) from error


def _check_entries(data: bytes, max_bytes: int) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise AdapterTooLarge(
            f"found a file of torch.save that unpacks to more than {max_bytes} bytes. Fix: save the adapter alone"
        )
    pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise AdapterUnsupported(
            f"found {len(pickles)} pickles in a zip file, expected one, as torch.save writes it. "
            "Fix: save model.state_dict()"
        )


def _check_tensors(tensors: Mapping[str, Tensor], max_bytes: int) -> None:
    """A tensor may claim any shape over a few stored bytes; what it would take as a copy is counted."""
    if odd := [name for name, tensor in tensors.items() if tensor.layout is not torch.strided or tensor.is_quantized]:
        raise AdapterUnsupported(
            f"{odd[0][:120]}: found a sparse or quantised tensor, expected a dense one. Fix: save it with .to_dense()"
        )
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > max_bytes:
        raise AdapterTooLarge(
            f"found tensors of {total} bytes, expected at most {max_bytes}. Fix: save the adapter alone"
        )


def _whole_object(what: str) -> AdapterUnsupported:
    return AdapterUnsupported(
        f"found an object of {what.replace(' ', '.')[:100]} in a file of torch.save, expected tensors only: to read "
        "other objects can run code. Fix: save model.state_dict(), or the adapter with save_pretrained"
    )
