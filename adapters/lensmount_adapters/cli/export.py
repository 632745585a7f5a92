"""`lensmount adapters export FILE`: an adapter file of this machine, in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lensmount_adapters.cli.terminal import fail


def export_file(path: Path, to: str, out: Path | None, weights: str | None, as_json: bool) -> dict[str, Any]:
    """Write the adapter's files into `out`, by default NAME-FORMAT here. An error ends the command with one line.

    Returns `path`, `to`, `files` and `notes`, as the SDK's Export has them.
    """
    from lensmount_adapters.adapter.admission import admit
    from lensmount_adapters.adapter.backbone_of import backbone_of
    from lensmount_adapters.adapter.file import parse_adapter
    from lensmount_adapters.errors import AdapterError, LensmountError
    from lensmount_adapters.export.export import export_adapter, target_of

    try:
        target_of(to)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AdapterError(f"{path}: cannot be read ({error.strerror})") from error
        backbone = backbone_of(parse_adapter(data).manifest, weights)
        exported = export_adapter(admit(data, backbone), backbone, to, out or Path(f"{path.stem}-{to}"))
    except LensmountError as error:
        fail(error, as_json)
    return {
        "path": str(exported.folder),
        "to": to,
        "files": list(exported.files),
        "notes": list(exported.notes),
    }
