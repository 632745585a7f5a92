"""Damage is found before somebody needs the file, behind predictions and within the budget."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.service.states import Kept, settings_of

from lensmount_adapters import Backbone
from lensmount_service.build import open_parts
from lensmount_service.metrics import Metrics
from lensmount_service.quarantine import Quarantine
from lensmount_service.repair import scrubber as scrubbing
from lensmount_service.repair.scrubber import Scrubber, ScrubBudget
from lensmount_service.repair.shelves import open_shelves
from lensmount_service.store.database import Database

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng, Until

FREE = ScrubBudget(bytes_per_s=0)


@pytest.fixture
def database(kept: Kept) -> Iterator[Database]:
    database = Database(kept.folder / "registry.sqlite3")
    yield database
    database.close()


@pytest.fixture
def scrubber(kept: Kept, database: Database) -> Scrubber:
    return Scrubber(database, open_shelves(kept.folder), Quarantine(), Metrics("1", "b", "f"), FREE)


def flip(path: Path) -> bytes:
    """Change one bit in the middle of a file. Returns what it was."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    return data


def blob_of(kept: Kept, database: Database, name: str, version: int) -> Path:
    with database.read() as connection:
        digest = connection.exec_driver_sql(
            f"SELECT digest FROM versions WHERE name = '{name}' AND version = {version}"
        ).scalar_one()
    return kept.folder / "blobs" / str(digest).removeprefix("sha256:")


def values_of(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_sound_state_has_no_trouble_and_every_byte_was_read(scrubber: Scrubber, kept: Kept) -> None:
    scrubber.look()
    scrubber.read_all()
    assert scrubber.report.trouble is None
    assert len(scrubber.quarantine) == 0
    paths = [path for name in ("blobs", "datasets", "pools") for path in (kept.folder / name).glob("[0-9a-f]*")]
    values = values_of(scrubber.metrics)
    assert values["lensmount_scrubbed_bytes_total"] == sum(path.stat().st_size for path in paths)
    assert values["lensmount_scrubbed_timestamp_seconds"] == pytest.approx(time.time(), abs=60)


def test_a_flipped_bit_in_a_file_of_each_kind_is_found_and_its_adapter_is_quarantined(
    scrubber: Scrubber, kept: Kept, database: Database
) -> None:
    blob = blob_of(kept, database, "cells", 2)
    for path in (blob, next((kept.folder / "datasets").glob("*.zip")), next((kept.folder / "pools").iterdir())):
        flip(path)
    scrubber.read_all()
    assert sorted(kind for kind, _ in scrubber.report.damaged) == ["adapter", "dataset", "image"]
    assert scrubber.quarantine.holds(f"sha256:{blob.name}")
    assert len(scrubber.quarantine) == 1
    assert scrubber.report.trouble is not None
    assert scrubber.report.trouble.startswith("found 3 damaged and 0 missing files. Fix: run `lensmount store check`")
    values = values_of(scrubber.metrics)
    assert values['lensmount_stored_files{state="damaged"}'] == 3
    assert values["lensmount_quarantined_adapters"] == 1


def test_missing_files_and_old_files_without_a_row_are_counted(
    scrubber: Scrubber, kept: Kept, database: Database
) -> None:
    blob = blob_of(kept, database, "cells", 1)
    blob.unlink()
    for number, age_s in ((1, 0), (2, 7200)):
        orphan = kept.folder / "blobs" / f"{number:064x}"
        orphan.write_bytes(b"left over")
        os.utime(orphan, (time.time() - age_s,) * 2)
    scrubber.look()
    assert scrubber.report.missing == {("adapter", f"sha256:{blob.name}")}
    assert scrubber.report.orphaned == 1  # the young one may belong to an upload
    assert scrubber.quarantine.why(f"sha256:{blob.name}") == "its file is gone"


def test_a_file_that_is_whole_again_ends_its_quarantine_at_the_next_look(
    scrubber: Scrubber, kept: Kept, database: Database
) -> None:
    damaged, gone = blob_of(kept, database, "cells", 1), blob_of(kept, database, "cells", 2)
    before, other = flip(damaged), gone.read_bytes()
    gone.unlink()
    scrubber.look()
    scrubber.read_all()
    assert len(scrubber.quarantine) == 2
    damaged.write_bytes(before)
    gone.write_bytes(other)
    scrubber.look()
    assert (len(scrubber.quarantine), scrubber.report.trouble) == (0, None)


def test_a_quarantine_for_failures_is_not_ended(scrubber: Scrubber, kept: Kept, database: Database) -> None:
    blob = blob_of(kept, database, "cells", 1)
    digest = f"sha256:{blob.name}"
    scrubber.quarantine.limit = 1
    scrubber.quarantine.failed(digest, "its scores were not finite")
    before = flip(blob)
    scrubber.read_all()
    blob.write_bytes(before)
    scrubber.look()
    assert scrubber.quarantine.why(digest) == "its scores were not finite"


def test_what_was_deleted_is_not_missed(scrubber: Scrubber, kept: Kept, database: Database) -> None:
    blob = blob_of(kept, database, "tiles", 1)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE versions SET deleted_at = NULL WHERE name = 'tiles'")
    blob.unlink()
    scrubber.look()
    assert scrubber.report.missing == frozenset()


def test_it_reads_no_faster_than_its_budget_and_waits_while_predictions_wait(
    kept: Kept, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    busy = iter([True, True, True])
    scrubber = Scrubber(
        database,
        open_shelves(kept.folder),
        Quarantine(),
        Metrics("1", "b", "f"),
        ScrubBudget(bytes_per_s=1000),
        lambda: next(busy, False),
    )
    monkeypatch.setattr(scrubber, "wait", waited.append)
    scrubber.read_all()
    read = values_of(scrubber.metrics)["lensmount_scrubbed_bytes_total"]
    behind = [seconds for seconds in waited if seconds == 0.005]
    assert sum(waited) - sum(behind) == pytest.approx(read / 1000)
    assert len(behind) == 3


def test_a_stop_in_the_middle_of_a_round_ends_the_thread_at_once(
    kept: Kept, database: Database, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(scrubbing, "START_S", 0.0)
    metrics = Metrics("1", "b", "f")
    slow = ScrubBudget(bytes_per_s=1)  # the first piece alone would take an hour
    started = time.monotonic()
    with Scrubber(database, open_shelves(kept.folder), Quarantine(), metrics, slow) as scrubber:
        until(lambda: values_of(metrics)["lensmount_scrubbed_bytes_total"] > 0)
    assert not scrubber.is_running
    assert time.monotonic() - started < 30


def test_a_damaged_database_does_not_end_it(scrubber: Scrubber, kept: Kept, until: Until, monkeypatch: Any) -> None:
    monkeypatch.setattr(scrubbing, "START_S", 0.0)
    monkeypatch.setattr(scrubbing, "LOOK_S", 0.001)
    (kept.folder / "registry.sqlite3").write_bytes(b"garbage" * 5000)
    looks: list[int] = []
    look = scrubber.look
    monkeypatch.setattr(scrubber, "look", lambda: (looks.append(1), look()))
    with scrubber:
        until(lambda: len(looks) > 3)


def test_a_server_falls_back_says_so_in_health_and_an_upload_of_the_file_mends_it(
    kept: Kept,
    backbone: Backbone,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:
    monkeypatch.setattr(scrubbing, "START_S", 0.0)
    monkeypatch.setattr(scrubbing, "LOOK_S", 0.05)
    blob = blob_of(kept, database, "cells", 2)
    headers = {"Authorization": f"Bearer {kept.token}"}
    with (
        open_parts(settings_of(kept.folder), backbone) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1", headers=headers) as client,
    ):
        before = flip(blob)
        parts.app.state.scrubber.read_all()
        for reference in ("cells", "cells:prod"):
            answer = client.post(f"/predict?adapter={reference}", content=make_png())
            assert answer.status_code == 200, answer.text
            fallback = answer.json()["fallback"]
            assert (fallback["asked"], fallback["served"]) == (2, 1)
        pinned = client.post("/predict?adapter=cells@2", content=make_png())
        assert (pinned.status_code, pinned.json()["code"]) == (503, "adapter_corrupt")
        assert "cells@2" in pinned.json()["detail"]
        assert "Retry-After" not in pinned.headers
        until(lambda: client.get("/health/ready").json()["status"] == "degraded")
        assert client.get("/health/ready").json()["store"].startswith("found 1 damaged and 0 missing files")

        advised = client.put("/adapters/cells", content=before)
        assert advised.status_code == 200
        assert client.post("/predict?adapter=cells@2", content=make_png()).status_code == 200
        until(lambda: client.get("/health/ready").json()["status"] == "ok")
