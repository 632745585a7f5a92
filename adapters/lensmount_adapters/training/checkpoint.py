"""The saved state of a run, next to its adapter file: written after each epoch, loaded without running code."""

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
    """Save tensors, numbers, strings and containers of these. The write is atomic: a crash leaves the previous file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The state of a run, whose `settings` must equal those `asked` for.

    Raises TrainingError if there is no checkpoint, if it is damaged, or if a setting differs (the message names it).
    """
    state = _read(path)
    saved = with_full_words(state["settings"])
    for name in sorted(saved.keys() | asked.keys()):
        if saved.get(name) != asked.get(name):
            raise TrainingError(
                f"{path}: found a run with {name} = {saved.get(name)!r}, expected {asked.get(name)!r} to resume it. "
                "Fix: use the same settings, or omit --resume to start again"
            )
    return state


def with_full_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run; the short words of older runs, such as "fp32", are replaced by "float32" and so on."""
    return {
        name: full_word(value) if name in ("precision", "file_dtype") and isinstance(value, str) else value
        for name, value in settings.items()
    }


def checkpoint_settings(path: Path) -> dict[str, Any]:
    """The settings of the saved run. Raises TrainingError if there is no checkpoint or it is damaged."""
    return with_full_words(_read(path)["settings"])


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"{path}: found no checkpoint, expected one to resume from. Fix: omit --resume")
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        return state
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise TrainingError(
            f"{path}: found a damaged checkpoint, expected one to resume from. "
            "Fix: delete it and start again without --resume"
        ) from error
