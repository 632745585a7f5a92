"""The state of a training run beside its adapter file: written whole each epoch, read back without running code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.dtypes import full_word
from lensmount_adapters.errors import TrainingError


def checkpoint_path(out: Path) -> Path:
    """ "malaria.safetensors" -> "malaria.safetensors.checkpoint"."""
    return out.with_name(f"{out.name}.checkpoint")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Tensors, numbers, strings and containers of these; atomic: a crash leaves the previous checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The state of a run with the same `settings` as `asked`.

    Raises TrainingError where there is none, where it is damaged, or where a setting differs (it names the setting).
    """
    state = _read(path)
    found = with_full_words(state["settings"])
    for name in sorted(found.keys() | asked.keys()):
        if found.get(name) != asked.get(name):
            raise TrainingError(
                f"{path}: found a run with {name} = {found.get(name)!r}, expected {asked.get(name)!r} to resume it. "
                "Fix: give the same settings, or leave --resume out to start anew"
            )
    return state


def with_full_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, with "float32" where an older one wrote "fp32"."""
    return {
        name: full_word(value) if name in ("precision", "file_dtype") and isinstance(value, str) else value
        for name, value in settings.items()
    }


def checkpoint_settings(path: Path) -> dict[str, Any]:
    """What the run was told. Raises TrainingError where there is no checkpoint or it is damaged."""
    return with_full_words(_read(path)["settings"])


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"{path}: found no checkpoint to resume from. Fix: leave --resume out")
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        return state
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise TrainingError(f"{path}: the checkpoint is damaged. Fix: delete it and start anew") from error
