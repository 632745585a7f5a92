from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lensmount_service.backup.manifest import NAME, BackupManifest, name_of, read_manifest
from lensmount_service.errors import Unavailable

AT = datetime.datetime(2026, 11, 28, 19, 3, 12, 345, datetime.UTC)
DIGEST = f"sha256:{'a' * 64}"


def document(**changes: Any) -> str:
    whole = {
        "format": 1,
        "lensmount": "1.0",
        "created_at": "2026-11-28T19:03:12Z",
        "schema_version": 4,
        "database": "sqlite",
        "files": {"registry.sqlite3": {"digest": DIGEST, "size_bytes": 3}},
        "absent": [],
    }
    return json.dumps(whole | changes)


def written(folder: Path, text: str) -> Path:
    path = folder / name_of(text, AT)
    path.write_text(text)
    return path


def test_what_is_written_is_read_again_and_its_name_says_when(tmp_path: Path) -> None:
    path = written(tmp_path, document())
    assert path.name.startswith("20261128T190312.000345Z-")
    assert NAME.fullmatch(path.name)
    assert read_manifest(path) == BackupManifest.model_validate_json(document())


def test_every_flipped_bit_is_recognised(tmp_path: Path) -> None:
    path = written(tmp_path, document())
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(Unavailable, match="do not match the digest in its name"):
            read_manifest(path)


@pytest.mark.parametrize("changes", [{"format": 2}, {"more": 1}, {"database": "oracle"}, {"files": []}])
def test_another_kind_of_backup_is_refused_with_what_restores_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(
        Unavailable, match=r"expected a backup of format 1\. Fix: restore it with the Lensmount that made"
    ):
        read_manifest(written(tmp_path, document(**changes)))


@pytest.mark.parametrize(
    "path",
    [
        *("../registry.sqlite3", "/etc/passwd", "blobs/../../x", f"blobs/{'a' * 63}", f"blobs/{'a' * 64}/x", "jobs/a"),
        *(
            "jobs/../x",
            "jobs/j1/.card",
            "audit/x",
            "registry.sqlite3\n",
            ".lock",
            f"datasets/{'a' * 64}",
            "jobs/j/../x",
        ),
    ],
)
def test_no_path_leads_out_of_a_state_folder(path: str) -> None:
    with pytest.raises(ValidationError):
        BackupManifest.model_validate_json(document(files={path: {"digest": DIGEST, "size_bytes": 1}}))


@pytest.mark.parametrize(
    "path",
    [f"datasets/{'0' * 64}.zip", f"pools/{'0' * 64}", "jobs/j-1/adapter.safetensors", f"audit/audit-{1:016d}.jsonl"],
)
def test_the_paths_of_a_state_folder_are_taken(path: str) -> None:
    assert BackupManifest.model_validate_json(document(files={path: {"digest": DIGEST, "size_bytes": 1}})).files
