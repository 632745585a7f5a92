"""After a recovery a server starts, shows what could be saved, and serves no damaged file."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from tests.service.repair.test_check import bytes_of
from tests.service.repair.test_scrubber import flip
from tests.service.repair.test_start import spoil_header, spoil_pages
from tests.service.states import Kept, settings_of, shown

from lensmount_adapters import Backbone
from lensmount_service import maintenance
from lensmount_service.build import open_parts
from lensmount_service.errors import Unavailable
from lensmount_service.repair.recover import Recovered
from lensmount_service.state_folder import in_use

if TYPE_CHECKING:
    from tests.service.conftest import MakePng


def recover(kept: Kept, *, adopt: bool = False) -> Recovered:
    return maintenance.recover(settings_of(kept.folder), adopt=adopt)


def spoil_index(path: Path) -> None:
    """Damage only an index, so that every row can still be read."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_versions_digest'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def test_a_sound_state_needs_nothing(kept: Kept) -> None:
    before = bytes_of(kept.folder)
    assert recover(kept) == Recovered()
    assert bytes_of(kept.folder) == before


def test_a_database_with_readable_rows_is_rebuilt_and_a_server_shows_the_same(kept: Kept, backbone: Backbone) -> None:
    before = shown(kept, backbone)
    path = kept.folder / "registry.sqlite3"
    spoil_index(path)
    damaged = path.read_bytes()
    recovered = recover(kept)
    assert recovered.rebuilt
    assert recovered.rows is not None
    assert recovered.rows.lost == {}
    assert recovered.kept is not None
    assert Path(recovered.kept).read_bytes() == damaged
    assert shown(kept, backbone) == before
    assert recover(kept) == Recovered()


def test_a_lost_database_is_made_again_of_the_files(kept: Kept, backbone: Backbone, make_png: MakePng) -> None:
    spoil_header(kept.folder / "registry.sqlite3")
    recovered = recover(kept, adopt=True)
    assert recovered.rebuilt
    assert len(recovered.adopted) == 5  # four adapters and the dataset
    with (
        open_parts(settings_of(kept.folder), backbone) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        assert len(client.get("/adapters/task").json()["versions"]) == 4  # the name in all their manifests
        assert client.post("/predict?adapter=task", content=make_png()).status_code == 200
        (dataset,) = client.get("/datasets").json()["datasets"]
        assert dataset["images"] == 12
    assert maintenance.check(settings_of(kept.folder)).findings == ()


def test_what_nothing_refers_to_is_set_apart_so_that_no_server_removes_it_and_can_be_adopted_later(
    kept: Kept,
) -> None:
    blobs = bytes_of(kept.folder / "blobs")
    for path in (kept.folder / "blobs").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    spoil_header(kept.folder / "registry.sqlite3")
    assert len(recover(kept).set_apart) == 6
    assert bytes_of(kept.folder / "damaged" / "adapter") == blobs
    maintenance.collect_garbage(settings_of(kept.folder), 0)

    assert len(recover(kept, adopt=True).adopted) == 5
    assert bytes_of(kept.folder / "blobs") == blobs


def test_a_damaged_file_is_set_apart_and_sending_it_again_brings_it_back(
    kept: Kept, backbone: Backbone, make_png: MakePng
) -> None:
    with sqlite3.connect(kept.folder / "registry.sqlite3") as connection:
        (digest,) = connection.execute("SELECT digest FROM versions WHERE name = 'cells' AND version = 2").fetchone()
    connection.close()
    blob = kept.folder / "blobs" / digest.removeprefix("sha256:")
    data = flip(blob)
    recovered = recover(kept)
    assert recovered.set_apart == recovered.missing
    assert recovered.missing[0].startswith("adapter cells@2")
    assert not blob.exists()
    assert (kept.folder / "damaged" / "adapter" / blob.name).exists()
    with (
        open_parts(settings_of(kept.folder), backbone) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {kept.token}"}) as client,
    ):
        answer = client.post("/predict?adapter=cells:prod", content=make_png())
        assert answer.json()["fallback"]["served"] == 1
        assert client.put("/adapters/cells", content=data).status_code == 200
        assert client.post("/predict?adapter=cells@2", content=make_png()).status_code == 200


def test_a_manifest_that_cannot_be_read_is_taken_from_the_file_and_without_a_file_the_row_goes(
    kept: Kept, backbone: Backbone
) -> None:
    before = shown(kept, backbone)
    with sqlite3.connect(kept.folder / "registry.sqlite3") as connection:
        connection.execute("UPDATE versions SET manifest = '{' WHERE name = 'cells'")
    connection.close()
    assert recover(kept).mended_rows == ["cells@1", "cells@2"]
    assert shown(kept, backbone) == before

    with sqlite3.connect(kept.folder / "registry.sqlite3") as connection:
        connection.execute("UPDATE versions SET manifest = '{' WHERE name = 'cells' AND version = 2")
        (digest,) = connection.execute("SELECT digest FROM versions WHERE name = 'cells' AND version = 2").fetchone()
    connection.close()
    (kept.folder / "blobs" / digest.removeprefix("sha256:")).unlink()
    assert recover(kept).removed_rows == ["cells@2"]
    after = shown(kept, backbone)
    (entry,) = after[f"{kept.token[-4:]} /adapters"][1]["adapters"]
    assert (entry["version"], entry["aliases"]) == (1, {})


def test_a_folder_that_a_server_uses_is_refused_and_stopping_it_helps(kept: Kept) -> None:
    spoil_pages(kept.folder / "registry.sqlite3")
    with in_use(kept.folder), pytest.raises(Unavailable, match="stop it first"):
        recover(kept)
    assert recover(kept).rebuilt


def test_the_result_is_json(kept: Kept) -> None:
    from dataclasses import asdict

    spoil_pages(kept.folder / "registry.sqlite3")
    assert json.loads(json.dumps(asdict(recover(kept))))["rebuilt"] is True


def test_random_damage_to_the_database_never_stops_a_recovery(kept: Kept, tmp_path: Path) -> None:
    import numpy as np

    sound = (kept.folder / "registry.sqlite3").read_bytes()
    random = np.random.default_rng(0)
    for number in range(12):
        state = tmp_path / str(number)
        shutil.copytree(kept.folder, state)
        damaged = bytearray(sound)
        for at in random.integers(0, len(sound), 50):
            damaged[at] ^= 0xFF
        (state / "registry.sqlite3").write_bytes(damaged)
        recover(Kept(state, "", ""))
        findings = maintenance.check(settings_of(state)).findings
        assert [finding for finding in findings if finding.kind == "database"] == []
