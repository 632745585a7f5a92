"""lensmount_service.ray.replica, without Ray: the start of several on one folder, and what one tells the autoscaler."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tests.service.conftest import MakePng
from tests.service.known_machine import EXACT, KnownMachine

from lensmount_adapters import Backbone
from lensmount_service.errors import Unavailable
from lensmount_service.ray.messages import Asked, Head
from lensmount_service.ray.replica import STARTING, EngineReplica, alone_at_start, if_first
from lensmount_service.ray.scaling import PIXELS, WAITING
from lensmount_service.settings import Settings


def test_replicas_of_one_folder_start_one_after_the_other(tmp_path: Path) -> None:
    order: list[str] = []

    def start() -> None:
        with alone_at_start(tmp_path / "state"):
            order.append("second")

    with alone_at_start(tmp_path / "state"):
        second = threading.Thread(target=start)
        second.start()
        second.join(0.05)
        order.append("first")
    second.join()
    assert order == ["first", "second"]


def test_one_replica_at_a_time_reads_the_stored_files_again(tmp_path: Path) -> None:
    with if_first(tmp_path) as first:
        with if_first(tmp_path) as second:
            assert (first, second) == (True, False)
    with if_first(tmp_path) as third:
        assert third


def test_a_folder_without_rights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / STARTING).mkdir()
    with pytest.raises(Unavailable, match="Fix: make it readable and writable"), alone_at_start(tmp_path):
        pass


def test_a_replica_answers_like_the_application_and_counts_pixels(
    tmp_path: Path, backbone: Backbone, machine: KnownMachine, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.prepare(tmp_path)
    monkeypatch.setattr("lensmount_service.build._load", lambda settings: backbone)
    settings = Settings(state=tmp_path, zoo=False, threads=1, log_level="error", **EXACT)

    async def run() -> tuple[Head, dict[str, float], str]:
        replica = EngineReplica.__new__(EngineReplica)
        await replica.__init__(settings, "worker-token", "r1")  # type: ignore[misc]  # as Ray does
        headers = [(b"host", b"localhost"), (b"authorization", b"Bearer worker-token")]
        asked = Asked("GET", "/whoami", b"/whoami", b"", headers, ("127.0.0.1", 1), None, "http", b"")
        (head,) = [message async for message in replica.answer(asked)]
        stats = replica.record_autoscaling_stats()
        name, page = await replica.page()
        replica.check_health()
        await replica.close()
        assert isinstance(head, Head)
        assert page.startswith(b"# HELP")
        return head, stats, name

    head, stats, name = asyncio.run(run())
    assert (head.status, head.more, head.replica, name) == (200, False, "r1", "r1")
    assert b"own-worker" in head.body
    assert stats == {WAITING: 0.0, PIXELS: 0.0}
