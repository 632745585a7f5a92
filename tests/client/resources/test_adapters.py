"""Adapters by both clients: push, pull, aliases, delete."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.client.answers import answering, mocked
from tests.client.wire import STATS, digest_of

from lensmount_client import (
    AdapterMismatch,
    AdapterNotFound,
    AliasTrust,
    AsyncClient,
    Client,
    Export,
    ExportNotPossible,
    InvalidInput,
)


def test_list_and_get_return_all_that_the_server_knows(server: Any) -> None:
    with Client(server.url) as client:
        listed, got = client.adapters.list()[0], client.adapters.get("malaria")
    assert listed.manifest is None
    assert got.manifest is not None
    assert got.manifest["labels"] == ["parasitized", "uninfected"]
    assert (got.name, got.version, got.versions, got.aliases) == ("malaria", 1, (1,), {"prod": 1})
    assert got.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert got.digest == listed.digest == digest_of(b"malaria file")


def test_push_names_the_adapter_after_its_file_and_the_same_bytes_are_one_version(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "histology.safetensors"
    path.write_bytes(b"weights")
    with Client(server.url) as client:
        first, second = client.adapters.push(path), client.adapters.push(str(path))
        other = client.adapters.push(path, name="malaria")
    assert first == second
    assert (first.name, first.version, first.digest) == ("histology", 1, digest_of(b"weights"))
    assert (other.name, other.version) == ("malaria", 2)


def test_push_refuses_names_and_files_before_sending(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "My Adapter.safetensors"
    path.write_bytes(b"weights")
    with Client(server.url) as client:
        with pytest.raises(InvalidInput, match="adapter name"):
            client.adapters.push(path)
        with pytest.raises(InvalidInput, match="no such file"):
            client.adapters.push(tmp_path / "none.safetensors")


def test_push_of_a_folder_of_peft_names_the_command_that_imports_it(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "oaks"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"oaks file")

    with Client(server.url) as client:
        with pytest.raises(InvalidInput, match=r"adapter of PEFT.*Fix: lensmount adapters import .*oaks, or client"):
            client.adapters.push(folder)
        assert client.adapters.import_(folder, labels=["a", "b"]).adapter


def test_push_notices_when_other_bytes_arrived(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weights")
    answer = {"name": "a", "version": 1, "digest": digest_of(b"other")}
    transport = httpx.MockTransport(lambda request: httpx.Response(201, json=answer))
    with Client(transport=transport) as client, pytest.raises(AdapterMismatch, match="digest"):
        client.adapters.push(path)


def test_pull_writes_a_file_or_into_a_folder(server: Any, tmp_path: Path) -> None:
    server.files["malaria"].append(b"newer")
    with Client(server.url) as client:
        into_folder = client.adapters.pull("malaria", tmp_path)
        to_file = client.adapters.pull("malaria", tmp_path / "old.bin", version=1)
    assert into_folder.path == tmp_path / "malaria.safetensors"
    assert (into_folder.path.read_bytes(), to_file.path.read_bytes()) == (b"newer", b"malaria file")
    assert (to_file.digest, to_file.size_bytes) == (digest_of(b"malaria file"), 12)
    assert into_folder.path.stat().st_mode & 0o444 == 0o444 & ~0o077 | into_folder.path.stat().st_mode & 0o044
    assert sorted(path.name for path in tmp_path.iterdir()) == ["malaria.safetensors", "old.bin"]


def test_alias_unalias_version_and_delete(server: Any) -> None:
    with Client(server.url) as client:
        alias = client.adapters.alias("malaria", "canary", 1)
        assert (alias.alias, alias.version, alias.digest) == ("canary", 1, digest_of(b"malaria file"))
        assert client.adapters.version("malaria", 1).manifest["license"] == "CC0-1.0"
        assert alias.trust is None
        sure = AliasTrust(accept_confidence=0.9, unfamiliar_percentile=99.5)
        assert client.adapters.alias("malaria", "canary", 1, trust=sure).trust == sure
        assert client.adapters.alias("malaria", "canary", 1).trust == sure
        assert client.adapters.get("malaria").alias_trust == {"canary": sure}
        assert client.adapters.alias("malaria", "canary", 1, trust=AliasTrust()).trust is None
        client.adapters.unalias("malaria", "canary")
        assert client.adapters.get("malaria").aliases == {"prod": 1}
        client.adapters.delete("malaria")
        with pytest.raises(AdapterNotFound):
            client.adapters.get("malaria")
        with pytest.raises(InvalidInput, match="version"):
            client.adapters.delete("smoking", 0)
        with pytest.raises(InvalidInput, match="alias"):
            client.adapters.alias("smoking", "../x", 1)
        for value in (-0.1, 1.1, math.nan):
            with pytest.raises(InvalidInput, match=r"accept_confidence: found .*, expected 0 to 1"):
                client.adapters.alias("smoking", "prod", 1, trust=AliasTrust(accept_confidence=value))
        for value in (0, 100.1, math.nan):
            with pytest.raises(InvalidInput, match=r"unfamiliar_percentile: found .*, expected above 0 to 100"):
                client.adapters.alias("smoking", "prod", 1, trust=AliasTrust(unfamiliar_percentile=value))


def test_a_deleted_adapter_is_listed_and_comes_back_and_a_purged_one_does_not(server: Any) -> None:
    with Client(server.url) as client:
        client.adapters.delete("malaria")
        (gone,) = client.adapters.deleted()
        assert (gone.name, gone.version, gone.digest) == ("malaria", 1, digest_of(b"malaria file"))
        assert (gone.kept_until - gone.deleted_at).days == 7
        assert client.adapters.undelete("malaria").digest == digest_of(b"malaria file")
        assert client.adapters.deleted() == []
        client.adapters.delete("malaria", purge=True)
        with pytest.raises(AdapterNotFound):
            client.adapters.undelete("malaria", 1)

    async def run() -> None:
        async with AsyncClient(server.url) as client:
            await client.adapters.delete("smoking")
            assert [gone.name for gone in await client.adapters.deleted()] == ["smoking"]
            assert (await client.adapters.undelete("smoking")).name == "smoking"

    asyncio.run(run())


def test_the_async_client_does_the_same(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    path.write_bytes(b"weights")

    async def run() -> None:
        async with AsyncClient(server.url) as client:
            adapters = client.adapters
            assert (await adapters.push(path)).name == "new"
            assert (await adapters.pull("new", tmp_path / "again")).digest == digest_of(b"weights")
            assert (await adapters.alias("new", "prod", 1)).alias == "prod"
            await adapters.unalias("new", "prod")
            assert (await adapters.version("new", 1)).size_bytes == 7
            assert (await adapters.get("new")).status == "ready"
            await adapters.delete("new", 1)
            assert [info.name for info in await adapters.list()] == ["malaria", "smoking"]

    asyncio.run(run())
    assert (tmp_path / "again").read_bytes() == b"weights"


def test_import_sends_the_folder_and_returns_the_version_and_the_report(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "oaks"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")

    with Client(server.url) as client:
        imported = client.adapters.import_(folder, labels=["oak", "elm"], preprocessing={"resize": "pad"}, source="hub")

    assert imported.adapter is not None
    assert (imported.adapter.name, imported.adapter.version) == ("oaks", 1)
    report = imported.report
    assert (report.tool, report.method, report.labels, report.share) == ("PEFT", "LoRA", ("oak", "elm"), 0.5)
    assert [(each.module, each.form, each.rank) for each in report.matched] == [
        ("up", "low-rank", 4),
        ("head", "head", None),
    ]
    assert report.ignored == {"counter": "a counter"}
    assert report.notes[-1] == '{"source": "hub", "preprocessing": "{\\"resize\\": \\"pad\\"}"}'


def test_a_dry_run_stores_nothing_by_either_client(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    path.write_bytes(b"weights")

    async def import_it() -> object:
        async with AsyncClient(server.url) as client:
            return await client.adapters.import_(path, dry_run=True)

    with Client(server.url) as client:
        assert client.adapters.import_(path, dry_run=True) == asyncio.run(import_it())
    assert "style" not in server.files


def test_import_refuses_a_name_that_no_adapter_may_have(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "My Style.safetensors"
    path.write_bytes(b"weights")

    with Client(server.url) as client, pytest.raises(InvalidInput, match="adapter name"):
        client.adapters.import_(path)


def test_export_unpacks_what_the_server_sends_by_both_clients(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exported() -> Export:
        async with AsyncClient(server.url) as client:
            return await client.adapters.export("malaria", "peft", tmp_path / "there")

    monkeypatch.chdir(tmp_path)
    with Client(server.url) as client:
        here = client.adapters.export("malaria", "timm")
        with pytest.raises(ExportNotPossible, match="Fix: export to timm"):
            client.adapters.export("malaria", "lycoris")
    there = asyncio.run(exported())

    assert (here.path, here.files, here.notes) == (
        Path("malaria-timm"),
        ("lensmount.json", "model.bin"),
        ("mind the gap",),
    )
    assert (tmp_path / "malaria-timm" / "model.bin").read_text() == "timm"
    assert (there.path / "model.bin").read_text() == "peft"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["malaria-timm", "there"]


def test_push_takes_another_digest_only_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weights")
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url.query, "ascii"))
        note = {"note": "changed by 1e-4"} if asked[-1] else {}
        return httpx.Response(201, json={"name": "a", "version": 1, "digest": digest_of(b"other")} | note)

    with Client(transport=httpx.MockTransport(answer)) as client:
        pushed = client.adapters.push(path, accept_rounded_backbone=True)
        with pytest.raises(AdapterMismatch):
            client.adapters.push(path)

    assert (pushed.digest, pushed.note) == (digest_of(b"other"), "changed by 1e-4")
    assert asked == ["accept_rounded_backbone=true", ""]


def test_a_quarantined_version_is_released_by_its_number() -> None:
    handle, seen = answering(httpx.Response(200, json={"name": "cells", "version": 3, "digest": "sha256:" + "0" * 64}))
    with mocked(handle) as client:
        released = client.adapters.release("cells", 3)
        with pytest.raises(InvalidInput, match="version"):
            client.adapters.release("cells", 0)

    assert (released.name, released.version) == ("cells", 3)
    assert [(request.method, request.url.path) for request in seen] == [("POST", "/adapters/cells/versions/3/release")]


def test_the_statistics_of_an_adapter_are_read_whole() -> None:
    handle, seen = answering(httpx.Response(200, json={"name": "cells", **STATS}))
    with mocked(handle) as client:
        stats = client.adapters.stats("cells")
    assert seen[0].url.path == "/adapters/cells/stats"
    assert (stats.name, stats.requests, stats.images) == ("cells", {200: 41, 413: 1}, 82)
    assert stats.decisions == {"accept": 80, "uncertain": 2}
    assert (stats.mean_ms, stats.last_used) == (12.5, None)
    assert stats.since == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
