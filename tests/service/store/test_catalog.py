"""The catalog pins the latest versions of pinned names and loads adapters before their first request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import Adapter, faults, parse_adapter
from lensmount_adapters.runners.runner import Runner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_service.store.adapter_cache import AdapterCache
from lensmount_service.store.blobs import Blobs
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry, Version

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts


def recorded_pins(runner: Any) -> set[str]:
    """The digests that the runner is told to pin, kept up to date."""
    pins: set[str] = set()
    pin, forget = runner.pin, runner.forget

    def record_pin(digest: str, pinned: bool) -> None:
        (pins.add if pinned else pins.discard)(digest)
        pin(digest, pinned)

    def record_forget(digest: str) -> None:
        pins.discard(digest)
        forget(digest)

    runner.pin, runner.forget = record_pin, record_forget
    return pins


def test_a_pinned_name_pins_its_latest_version(make_parts: MakeParts, make_adapter: MakeAdapter) -> None:
    with (
        make_parts(pinned="cells, tiles", hot_bytes=1) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        pins = recorded_pins(parts.engine.runner)
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        first = client.get("/adapters/cells").json()["digest"]
        client.put("/adapters/cells", content=make_adapter(3)).raise_for_status()

        assert pins == {client.get("/adapters/cells").json()["digest"]}
        assert first not in pins
        assert 'adapter="cells",pinned="true"' in client.get("/metrics").text


def test_of_two_uploads_at_once_to_a_pinned_name_the_one_published_last_is_pinned(
    make_parts: MakeParts, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second upload runs completely between the publication of the first and its end."""
    with make_parts(pinned="cells", hot_bytes=1) as parts:
        pins = recorded_pins(parts.engine.runner)
        put, files = AdapterCache.put, [make_adapter(3)]

        def put_later(cache: AdapterCache, adapter: Adapter) -> None:
            if files:
                parts.catalog.upload("cells", files.pop())
            put(cache, adapter)

        monkeypatch.setattr(AdapterCache, "put", put_later)
        first, _ = parts.catalog.upload("cells", make_adapter(1))
        latest = parts.catalog.entry("cells").latest

        assert latest.version == first.version + 1
        assert pins == {latest.digest}


def test_a_version_that_is_published_during_the_warm_up_stays_pinned(
    make_parts: MakeParts, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_parts(pinned="cells", hot_bytes=1) as parts:
        pins = recorded_pins(parts.engine.runner)
        first, _ = parts.catalog.upload("cells", make_adapter(1))
        status = parts.catalog.status

        def status_later(version: Version) -> Any:
            monkeypatch.undo()
            parts.catalog.upload("cells", make_adapter(3))
            return status(version)

        monkeypatch.setattr(parts.catalog, "status", status_later)
        parts.catalog.warm()
        latest = parts.catalog.entry("cells").latest

        assert latest.version == first.version + 1
        assert pins == {latest.digest}


def test_a_pinned_adapter_that_is_deleted_and_uploaded_again_is_pinned_again(
    make_parts: MakeParts, make_adapter: MakeAdapter
) -> None:
    with make_parts(pinned="cells", hot_bytes=1) as parts:
        pins = recorded_pins(parts.engine.runner)
        version, _ = parts.catalog.upload("cells", make_adapter(1))

        parts.catalog.delete("cells")
        assert pins == set()
        parts.catalog.upload("cells", make_adapter(1))
        assert pins == {version.digest}


def test_adapters_are_warm_before_their_first_request(make_parts: MakeParts, make_adapter: MakeAdapter) -> None:
    with make_parts() as parts:
        parts.catalog.upload("cells", make_adapter(1))
        finish(parts.engine.runner)
    with make_parts() as parts:
        assert parts.catalog.tier(parts.catalog.entry("cells").latest) == "file"
        parts.catalog.warm()
        runner = cast(SegmentRunner, parts.engine.runner)
        runner.settle()
        runner.settle()
        assert parts.catalog.tier(parts.catalog.entry("cells").latest) == "hot"
        finish(parts.engine.runner)


def test_a_request_that_has_its_adapter_is_answered_by_it_after_a_delete(
    make_parts: MakeParts, make_adapter: MakeAdapter
) -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    with make_parts(executor="merged") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        snapshot = parts.catalog.resolve(Reference("cells"))
        before = parts.engine.submit(snapshot.adapter, image).result(20).scores

        client.delete("/adapters/cells?purge=true").raise_for_status()
        client.put("/adapters/cells", content=make_adapter(3)).raise_for_status()
        after = parts.engine.submit(snapshot.adapter, image).result(20).scores

    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_a_thousand_adapters_are_known_after_a_restart_and_none_is_read_for_it(
    make_parts: MakeParts, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_adapter(1)
    with make_parts() as parts:
        version, _ = parts.catalog.upload("cells", data)
        manifest, database = parse_adapter(data).manifest, parts.training.jobs.database
        with database.write() as connection:
            for number in range(1000):
                Registry(database).add(connection, f"task-{number}", version.digest, len(data), manifest)
    read: list[str] = []
    monkeypatch.setattr(Blobs, "get", lambda self, digest: read.append(digest))

    with make_parts() as parts:
        assert len(parts.catalog.entries()) == 1001
        assert read == []


def test_the_file_is_stored_before_its_version_is_committed(
    make_parts: MakeParts, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    """So a kill in between leaves a file that nothing names, and never a version without its file."""
    stored: list[list[str]] = []

    def look(point: str) -> None:
        if point == "database.commit":
            stored.append([path.name for path in (tmp_path / "blobs").iterdir()])

    with make_parts(executor="merged") as parts, faults.installed(look):
        version, _ = parts.catalog.upload("cells", make_adapter(1))

    assert stored == [[version.digest.removeprefix("sha256:")]]


def finish(runner: Runner) -> None:
    """Close the runner after its background work, which may have started further work."""
    for _ in range(2):
        cast(SegmentRunner, runner).settle()
    runner.close()
