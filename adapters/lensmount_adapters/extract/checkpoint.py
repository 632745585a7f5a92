"""A trained network as other tools save it: which file of a folder, and which state dict of a file.

| what | where the weights are |
|---|---|
| timm's `model_best.pth.tar`, `checkpoint-9.pth.tar` | `state_dict`, or `state_dict_ema` if asked |
| Lightning's `.ckpt` | `state_dict` |
| a folder of `save_pretrained` or `save_for_hf` | `model.safetensors`, `pytorch_model.bin` |
| `torch.save(model.state_dict())`, safetensors | the file itself |
| other training scripts | the one entry that is a state dict, such as `model` |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lensmount_adapters.backbone.pickles import MAX_BYTES, load_pickle
from lensmount_adapters.errors import AdapterInvalid, AdapterMalformed, AdapterTooLarge, AdapterUnsupported

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model_best.pth.tar", "last.ckpt")
_USUAL = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
_MAX_CONFIG_BYTES = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a trained network under the names of its file, and what the file says about them.

    `key` is the entry of the file that holds them, "" if it is the file itself. `arch` is the network's name in timm,
    and `labels` the names of its classes, if they are known. `preprocessing` has timm's `mean`, `std`, `input_size`,
    `crop_pct` and `interpolation`, if it is known.
    """

    file: str
    tensors: Mapping[str, Tensor]
    key: str = ""
    arch: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read a file or a folder. `key` names the entry to take where a file holds several state dicts.

    Raises AdapterUnsupported for what is no trained network, AdapterTooLarge and AdapterMalformed.
    """
    config: Mapping[str, Any] = {}
    if path.is_dir():
        config = _config(path)
        path = _weights_of(path)
    elif not path.is_file():
        raise AdapterUnsupported(f"{path}: found no such file, expected a trained network. Fix: check the path")
    contents = _load(path)
    state, taken, notes = _state_dict(path, contents, key)
    arch = contents.get("arch") if isinstance(contents, Mapping) else None
    return Checkpoint(
        file=path.name,
        tensors=state,
        key=taken,
        arch=str(config.get("architecture") or (arch if isinstance(arch, str) else "")),
        labels=_labels(config),
        preprocessing=_object(config.get("pretrained_cfg")),
        notes=notes,
    )


def _weights_of(folder: Path) -> Path:
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()][:1] or sorted(folder.glob("*.safetensors"))
    if len(found) > 1 or (folder / "model.safetensors.index.json").exists():
        raise AdapterUnsupported(
            f"{folder.name}: found weights in several files, expected one. Fix: load the network where it was trained "
            "and save it with safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if not found:
        raise AdapterUnsupported(
            f"{folder.name}: found none of {', '.join(WEIGHTS)}, expected one of them. Fix: give the file itself"
        )
    return found[0]


def _load(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] != b"{":
        return load_pickle(path)
    if path.stat().st_size > MAX_BYTES:
        raise AdapterTooLarge(
            f"{path.name}: found {path.stat().st_size} bytes, expected at most {MAX_BYTES}. Fix: save the weights alone"
        )
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, OSError, KeyError, AttributeError) as error:
        raise AdapterMalformed(
            f"{path.name}: found a damaged safetensors file ({str(error)[:160]}). Fix: copy or download it again"
        ) from error


def _state_dict(path: Path, contents: Any, key: str | None) -> tuple[Mapping[str, Tensor], str, tuple[str, ...]]:
    """The state dict, its key, and a note on the other ones."""
    if not isinstance(contents, Mapping):
        raise AdapterUnsupported(
            f"{path.name}: found a {type(contents).__name__}, expected a state dict. Fix: save the network's "
            "state_dict() with torch.save or safetensors.torch.save_file"
        )
    if _is_state_dict(contents):
        if key:
            raise AdapterInvalid(f"{path.name}: found no entry {key!r}, it is one state dict. Fix: leave --key out")
        return _tensors(path, contents), "", ()
    entries = [str(name) for name, value in contents.items() if _is_state_dict(value)]
    known = ", ".join(entries) or f"only {', '.join(map(str, contents))[:160] or 'nothing'}"
    if key is not None and key not in entries:
        raise AdapterInvalid(f"{path.name}: found {known}, expected the state dict {key!r}. Fix: choose one of these")
    usual = [name for name in _USUAL if name in entries]
    taken = key or (usual[0] if usual else entries[0] if len(entries) == 1 else "")
    if not taken:
        raise AdapterUnsupported(
            f"{path.name}: found {known}, expected one state dict. Fix: choose one with --key"
            if entries
            else f"{path.name}: found {known}, expected the weights of a network. Fix: save its state_dict()"
        )
    others = [name for name in entries if name != taken]
    note = f"took {taken!r}; {', '.join(map(repr, others))} is there too: --key {others[0]}" if others else ""
    return _tensors(path, contents[taken]), taken, (note,) if note else ()


def _is_state_dict(value: object) -> bool:
    """Return True for names and tensors; an optimizer's state has numbers for names."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        return False
    return 2 * sum(isinstance(item, Tensor) for item in value.values()) > len(value)


def _tensors(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or _is_expanded(tensor):
            raise AdapterUnsupported(
                f"{path.name}: {name[:120]}: found a sparse, quantised or expanded tensor, expected a dense one. Fix: "
                "save it with .to_dense(), .dequantize() or .contiguous()"
            )
    return tensors


def _is_expanded(tensor: Tensor) -> bool:
    """Return True for a tensor that would take more memory than the file has for it."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
        return {}
    try:
        return _object(json.loads(path.read_text("utf-8")))
    except (ValueError, RecursionError) as error:
        raise AdapterMalformed(
            f"{path.name}: found text that is not JSON ({str(error)[:120]}). Fix: copy the folder again, or give the "
            "file of weights itself"
        ) from error


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """`label_names` of timm, or `id2label` of transformers unless it is LABEL_0, LABEL_1 and so on."""
    names = config.get("label_names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    by_id = _object(config.get("id2label"))
    labels = tuple(str(by_id.get(str(index))) for index in range(len(by_id)))
    usual = tuple(f"LABEL_{index}" for index in range(len(labels)))
    return labels if labels != usual and "None" not in labels else ()


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
