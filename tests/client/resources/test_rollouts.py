"""Rollouts by both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.client.tiny_rollouts import COMPARED, LABELLED, side

from lensmount_client import (
    AliasNotFound,
    AsyncClient,
    Canary,
    Client,
    InvalidInput,
    RightAnswers,
    RolloutEvent,
    RolloutFinding,
    Shadow,
)

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_rollout_is_started_while_the_alias_stays_where_it_is(server: Any) -> None:
    with Client(server.url) as client:
        report = client.rollouts.start(
            "malaria", "prod", canary=8, percent=10, key="client", shadow=9, sample=0.2, rules={"errors": 0.1}
        )
    body, if_match = server.rollouts.sent[0]
    assert body == {
        "stable": 1,
        "canary": {"version": 8, "percent": 10.0, "key": "client"},
        "shadow": {"version": 9, "sample": 0.2},
        "rules": {"errors": 0.1},
    }
    assert if_match == '"prod-1"'  # a move of the alias meanwhile is noticed
    rollout = report.rollout
    assert rollout is not None
    assert (rollout.stable, rollout.canary, rollout.shadow) == (1, Canary(8, 10.0, "client"), Shadow(9, 0.2))
    assert (rollout.started_at, rollout.started_by, rollout.ready) == (BEGAN, "reader1", True)
    assert rollout.rules["errors"] == 0.1


def test_a_report_has_every_figure_in_its_place(server: Any) -> None:
    server.rollouts.changes = {
        **{"sides": {"stable": side(1, 900), "canary": side(8, 100, errors={"swap_failed": 2}), "shadow": None}},
        **{"share": 0.1, "without_key": 3, "compared": COMPARED, "labelled": LABELLED},
        "findings": [{"rule": "errors", "found": "2 of 100", "expected": "at most 0.02"}],
    }
    with Client(server.url) as client:
        client.rollouts.start("malaria", "prod", canary=8, percent=10)
        report = client.rollouts.status("malaria", "prod")
        assert client.rollouts.list("malaria") == [report]
    assert report.sides.keys() == {"stable", "canary"}
    assert report.sides["canary"].errors == {"swap_failed": 2}
    assert (report.sides["stable"].requests, report.sides["stable"].p99_ms) == (900, 40.0)
    assert (report.share, report.without_key) == (0.1, 3)
    assert report.compared is not None
    assert report.compared.counts == ((120, 1), (2, 77))
    assert report.labelled is not None
    assert report.labelled.candidate == RightAnswers(0.85, 0.052, 0.16)
    assert report.labelled.sequential_p_accuracy == 0.0097
    assert report.findings == (RolloutFinding("errors", "2 of 100", "at most 0.02"),)
    assert report.events == (RolloutEvent(BEGAN, "reader1", "started", {"stable": 1}),)
    assert report.raw["share"] == 0.1


def test_a_rollout_ends_in_the_new_version_or_in_the_old_one_and_ending_twice_is_the_same(server: Any) -> None:
    with Client(server.url) as client:
        client.rollouts.start("malaria", "prod", shadow=9)
        assert client.rollouts.rollback("malaria", "prod").rollout is None
        assert server.aliases["malaria"]["prod"] == 1
        client.rollouts.start("malaria", "prod", shadow=9)
        for _ in range(2):
            report = client.rollouts.promote("malaria", "prod")
            assert (report.rollout, report.events[0].what) == (None, "promoted")
    assert server.aliases["malaria"]["prod"] == 9


def test_the_async_client_does_the_same(server: Any) -> None:
    async def story() -> None:
        async with AsyncClient(server.url) as client:
            started = await client.rollouts.start("malaria", "prod", canary=8, percent=10)
            assert await client.rollouts.status("malaria", "prod") == started
            assert await client.rollouts.list("malaria") == [started]
            assert (await client.rollouts.promote("malaria", "prod")).rollout is None
            assert (await client.rollouts.rollback("malaria", "prod")).rollout is None

    asyncio.run(story())
    assert server.aliases["malaria"]["prod"] == 8


def test_an_alias_that_is_not_there_is_refused_before_anything_is_written(server: Any) -> None:
    with Client(server.url) as client:
        with pytest.raises(AliasNotFound):
            client.rollouts.start("malaria", "beta", canary=8, percent=10)
        with pytest.raises(InvalidInput, match="alias: found"):
            client.rollouts.status("malaria", "../prod")
    assert server.rollouts.sent == []
