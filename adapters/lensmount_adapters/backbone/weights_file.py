"""The tensors of a weights file under the names of a network, and what is said about the others.

A file is safetensors, or what `torch.save` wrote: a state dict, or a training script's checkpoint that has one.
Wrappers such as DistributedDataParallel, torch.compile, Lightning and EMA put a prefix in front of every name. The rule
is: it is the one prefix behind which all tensors of the network are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from lensmount_adapters.backbone.pickles import load_pickle
from lensmount_adapters.errors import AdapterError, BackboneError, WeightsMismatch

USUAL = ("state_dict", "model", "model_state_dict", "weights", "params")
_COMPILED = "_orig_mod."

log = logging.getLogger(__name__)


def read_weights(source: str | Path, expected: Iterable[str]) -> tuple[dict[str, Tensor], str]:
    """Read a file's tensors, without the prefix in front of the names `expected`, and return both.

    `source` may end with #KEY: an entry of a checkpoint, such as FILE.pth.tar#state_dict_ema, or a prefix.
    Raises BackboneError for a missing file, WeightsMismatch for anything that is not a network's weights.
    """
    path, key = _split(source)
    state, taken = _state_dict(path, _load(path), key)
    stored = {name.replace(_COMPILED, ""): (name, tensor) for name, tensor in state.items()}
    prefix = _prefix(path, stored, frozenset(expected), "" if key == taken else key)
    tensors = {name.removeprefix(prefix): tensor for name, (_, tensor) in stored.items() if name.startswith(prefix)}
    stripped = {full.removesuffix(name.removeprefix(prefix)) for name, (full, _) in stored.items()} - {""}
    if prefix or stripped:
        others = f"; left out {len(stored) - len(tensors)} tensors behind others" if len(tensors) < len(stored) else ""
        log.warning("%s: stripped the prefix %r of its names%s", path, min(stripped, key=len), others)
    return tensors, prefix


def _split(source: str | Path) -> tuple[Path, str]:
    if Path(source).is_file():
        return Path(source), ""
    text, _, key = str(source).rpartition("#")
    if text and Path(text).is_file():
        return Path(text), key
    raise BackboneError(f"found no weights file {source}, expected a safetensors file, `hub` or `random:SEED`")


def _load(path: Path) -> Any:
    """The contents of the file. Nothing in it can run code."""
    with path.open("rb") as file:
        start = file.read(9)
    try:
        return safetensors.torch.load_file(path) if start[8:9] == b"{" else load_pickle(path)
    except (safetensors.SafetensorError, OSError, ValueError, AdapterError) as error:
        why = " ".join(str(error).partition(" Fix: ")[0].split())[:240]
        raise WeightsMismatch(
            f"{path}: found a file that is not safetensors or a checkpoint of tensors ({why}). Fix: save the weights "
            "with safetensors.torch.save_file(model.state_dict(), FILE)"
        ) from error


def _state_dict(path: Path, contents: Any, key: str) -> tuple[Mapping[str, Tensor], str]:
    """The tensors and the entry that has them: `key`, or the usual one if there is no such entry."""
    if _is_state_dict(contents):
        return _tensors(contents), ""
    entries = contents.items() if isinstance(contents, dict) else ()
    found = [str(name) for name, value in entries if _is_state_dict(value)]
    taken = key if key in found else next((name for name in (*USUAL, *found) if name in found), "")
    if not taken:
        raise WeightsMismatch(f"{path}: found no state dict, expected one. Fix: save the network's state_dict()")
    if not key and (others := [name for name in found if name != taken]):
        log.warning("%s: took %r; --weights %s#%s takes the other weights in it", path, taken, path, others[0])
    return _tensors(contents[taken]), taken


def _is_state_dict(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, Tensor) for item in value.values())


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _prefix(path: Path, stored: Iterable[str], expected: frozenset[str], key: str) -> str:
    """The prefix in front of the names; that with the most of them if none has all, so that one can name the others."""
    counts: Counter[str] = Counter()
    for name in stored:
        starts = [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if name[start:] in expected)
    complete = sorted((prefix for prefix, count in counts.items() if count == len(expected)), key=len)
    if key:
        found = ", ".join(repr(prefix) for prefix in complete) or "no prefix"
        complete = [prefix for prefix in complete if prefix.startswith(f"{key}.")]
        if not complete:
            raise WeightsMismatch(
                f"{path}: found all tensors behind {found}, expected them behind {key + '.'!r}, or an entry {key!r}. "
                f"Fix: leave #{key} out"
            )
    if not complete:
        return counts.most_common(1)[0][0] if counts else ""
    if complete[0] and len(complete) > 1:
        raise WeightsMismatch(
            f"{path}: found all tensors behind each of the prefixes {', '.join(complete)}, expected one. "
            f"Fix: choose one with --weights {path}#{complete[0].removesuffix('.')}"
        )
    return complete[0]
