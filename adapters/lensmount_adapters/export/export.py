"""Export an adapter to a format by its name: into a folder, or as one zip file."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.lycoris import Lycoris
from lensmount_adapters.export.onnx import Onnx
from lensmount_adapters.export.openvino import OpenVino
from lensmount_adapters.export.peft import Peft
from lensmount_adapters.export.target import Target
from lensmount_adapters.export.timm import Timm
from lensmount_adapters.export.torchscript import TorchScript
from lensmount_adapters.suggestion import did_you_mean

_TARGETS: tuple[Target, ...] = (Peft(), Lycoris(), Timm(), Onnx(), OpenVino(), TorchScript())
TARGETS = {target.name: target for target in _TARGETS}


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: the names of the files in the folder, and what a user has to know about them."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export_adapter(adapter: Adapter, backbone: Backbone, to: str, folder: Path) -> Export:
    """Write the adapter in the format `to`, a key of `TARGETS`, into a new or empty folder.

    >>> export_adapter(malaria, backbone, "timm", Path("malaria-timm")).files         # doctest: +SKIP
    ('README.md', 'config.json', 'lensmount.json', 'model.safetensors')

    The folder appears when it is complete. The backbone is read only. Raises ExportError, which names a format that
    can hold the adapter if this one cannot.
    """
    target = target_of(to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder}: found files there, expected a new or empty folder. Fix: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        part = Path(temporary, "part")
        part.mkdir()
        notes = target.write(adapter, backbone, part)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    return Export(folder, tuple(sorted(path.name for path in folder.iterdir())), tuple(notes))


def export_zip(adapter: Adapter, backbone: Backbone, to: str, path: Path) -> None:
    """Write the files of `export_adapter` into a new zip file, uncompressed. Raises ExportError."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        exported = export_adapter(adapter, backbone, to, Path(temporary, "files"))
        with zipfile.ZipFile(path, "w") as archive:
            for name in exported.files:
                entry = zipfile.ZipInfo(name)  # of 1980, so that the same contents give the same bytes
                entry.external_attr = 0o644 << 16
                with (exported.folder / name).open("rb") as source, archive.open(entry, "w") as sink:
                    shutil.copyfileobj(source, sink)


def target_of(to: str) -> Target:
    """The format of this name. Raises ExportError."""
    if to not in TARGETS:
        expected = ", ".join(TARGETS)
        meant = did_you_mean(to, TARGETS)
        raise ExportError(f"found the format {to[:40]!r}, expected {expected}. Fix: choose one of these.{meant}")
    return TARGETS[to]
