"""What the commands have in common that make an adapter without training: its size, its number format, its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensmount_adapters.options.option import Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lensmount_adapters.changes.budget import Budget

SIZE_OPTIONS = (
    Option("rank", "int", "", help="The rank of each layer's change."),
    Option("energy", "float", "", help="The share of each layer's change to keep, such as 0.99."),
    Option("max_bytes", "int", "", help="The size of the file in bytes; layers that changed more get more of it."),
)
FILE_OPTIONS = (
    Option("out", "path", "", unset="NAME.safetensors here", help="The adapter file to write."),
    Option("data", "path", "", help="Folder with one folder of images per label: measures the change of accuracy."),
    Option("file_dtype", "str", "", default="float16", help="float16, bfloat16 or float32."),
    Option("device", "str", "", default="cpu", help="cpu or cuda."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """The options above, and the name and weights that each command explains in its own words."""

    name: str | None
    weights: str | None
    rank: int | None
    energy: float | None
    max_bytes: int | None
    out: Path | None
    data: Path | None
    file_dtype: str
    device: str

    def budget(self) -> Budget | None:
        return budget_of(self.rank, self.energy, self.max_bytes)

    def dtype(self) -> Any:
        return dtype_of(self.file_dtype)


def budget_of(rank: int | None, energy: float | None, max_bytes: int | None) -> Budget | None:
    """The one budget that was given, or None. Raises TrainingError for two of them."""
    from lensmount_adapters.changes.budget import Energy, MaxBytes, SameRank
    from lensmount_adapters.errors import TrainingError

    given = {"--rank": rank, "--energy": energy, "--max-bytes": max_bytes}
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        raise TrainingError(
            f"found {' and '.join(named)}, expected one of --rank, --energy and --max-bytes. Fix: keep {named[0]} alone"
        )
    if rank is not None:
        return SameRank(rank)
    if energy is not None:
        return Energy(energy)
    return None if max_bytes is None else MaxBytes(max_bytes)


def dtype_of(word: str) -> Any:
    """The torch.dtype of a --file-dtype."""
    import torch

    from lensmount_adapters.dtypes import WORDS
    from lensmount_adapters.errors import TrainingError

    if word not in WORDS:
        raise TrainingError(f"found --file-dtype {word!r}, expected {', '.join(WORDS)}. Fix: --file-dtype float16")
    return getattr(torch, word)


def checked(name: str) -> str:
    """The name, if it may name an adapter."""
    from lensmount_adapters.adapter.manifest import check_name
    from lensmount_adapters.errors import TrainingError

    if not check_name(name):
        raise TrainingError(
            f"found the name {name[:80]!r}, expected up to 64 lower-case letters, digits, dots, dashes and "
            "underscores. Fix: --name my-adapter"
        )
    return name


def file_to_write(name: str, out: Path | None, inputs: Iterable[Path]) -> Path:
    """`out`, or NAME.safetensors here; refused if it is one of the files that are read."""
    from lensmount_adapters.errors import TrainingError

    out = Path(f"{name}.safetensors") if out is None else out
    if not out.parent.is_dir():
        raise TrainingError(f"found no folder {out.parent} for {out.name}. Fix: make it first, or choose another --out")
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise TrainingError(
            f"found {out} among the files that are read, expected another one. Fix: --out {name}-new.safetensors"
        )
    return out
