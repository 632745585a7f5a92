"""What a backup and a restore tell a person, and their JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from lensmount_service.backup.folder import BackupFolder, time_of
from lensmount_service.backup.make import Made
from lensmount_service.backup.manifest import BackupManifest, read_manifest
from lensmount_service.backup.restore import Restored
from lensmount_service.errors import Unavailable

_WORDS = {
    "blobs": "adapters",
    "datasets": "datasets",
    "pools": "images of pools",
    "jobs": "files of jobs",
    "audit": "files of the audit log",
}
MOST_SHOWN = 20


def described_backup(made: Made, out: Path) -> str:
    """Several lines: what is in the backup, what was copied, what is absent, and how to restore it."""
    lines = [
        f"Backed up {_counts(made.manifest)}.",
        f"Copied {made.new_files} files ({_size(made.new_bytes)}); the others were in {out} already.",
    ]
    if made.pruned:
        lines.append(f"Removed {made.pruned} older backups.")
    if made.manifest.database == "postgresql":
        lines.append("The PostgreSQL database is not in this backup: back it up with pg_dump.")
    absent = made.manifest.absent
    if absent:
        lines.append(f"{len(absent)} files are missing or damaged, and are not in this backup:")
        lines += [f"  {each.title}" for each in absent[:MOST_SHOWN]]
        lines.append("Fix: send them again, then back up again. `lensmount store check` shows all of them.")
    lines.append(f"To restore it: lensmount restore {shlex.quote(str(out))} --state NEW_FOLDER")
    return "\n".join(lines)


def described_restore(restored: Restored, state: Path) -> str:
    """Several lines: what is there now, and what to do next."""
    manifest = restored.manifest
    lines = [f"Restored {_counts(manifest)} of {manifest.created_at} into {state}."]
    if manifest.database == "postgresql":
        lines.append("The database was in PostgreSQL: restore it with pg_restore before you start a server.")
    if manifest.absent:
        lines.append(f"{len(manifest.absent)} files were missing or damaged when the backup was made; see store check.")
    lines.append(f"Start a server with it: lensmount serve --state {shlex.quote(str(state))}")
    return "\n".join(lines)


def json_of_backup(made: Made) -> dict[str, Any]:
    return {
        **_summary(made.manifest, made.path),
        "new_files": made.new_files,
        "new_bytes": made.new_bytes,
        "pruned": made.pruned,
        "absent": [each.model_dump() for each in made.manifest.absent],
    }


def json_of_restore(restored: Restored) -> dict[str, Any]:
    return _summary(restored.manifest, restored.path)


def listed(backups: Path, *, as_json: bool) -> str:
    """A line for each backup, oldest first. Raises Unavailable if the folder has none."""
    found = []
    for path in BackupFolder(backups).manifests():
        try:
            found.append(_summary(read_manifest(path), path))
        except Unavailable as error:
            found.append({"time": time_of(path), "error": str(error)})
    if as_json:
        return json.dumps({"backups": found})
    lines = [f"{each['time']}  {each.get('error') or _line(each)}" for each in found]
    return "\n".join(lines) or "No finished backup yet."


def _line(summary: dict[str, Any]) -> str:
    return f"{summary['files']} files, {_size(summary['bytes'])}, schema {summary['schema']}, {summary['lensmount']}"


def _summary(manifest: BackupManifest, path: Path) -> dict[str, Any]:
    return {
        "time": time_of(path),
        "lensmount": manifest.lensmount,
        "schema": manifest.schema_version,
        "database": manifest.database,
        "files": len(manifest.files),
        "bytes": sum(entry.size_bytes for entry in manifest.files.values()),
    }


def _counts(manifest: BackupManifest) -> str:
    kinds = Counter(name.partition("/")[0] for name in manifest.files if "/" in name)
    parts = [f"{kinds[kind]} {words}" for kind, words in _WORDS.items() if kinds[kind]]
    return ", ".join([*(["the database"] if manifest.database == "sqlite" else []), *parts]) or "no files"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.1f} KiB"
