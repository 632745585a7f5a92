"""What rollouts have shown is stored once for all servers, bounded, and forgotten some time after they ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lensmount_service.rollout_spec import Canary, Rollout
from lensmount_service.rollouts import rows
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.rows import Graded, Pair, Rows, count_table
from lensmount_service.store.database import Database

ROLLOUT = Rollout("1" * 32, 1, Canary(2, 10))
RIGHT, WRONG = Graded(True, 0.9, 0.9, 0.01), Graded(False, 0.2, 0.8, 0.64)
PAIR = Pair("sha256:1", "stable", 0.1, 2, RIGHT, WRONG)


@pytest.fixture
def stored(database: Database) -> Rows:
    database.create()
    return Rows(database)


def seen(count: int) -> Evidence:
    evidence = Evidence()
    for _ in range(count):
        evidence.sample(ROLLOUT, "canary").request(200, 1, 0.01)
    return evidence


def test_two_servers_add_to_the_same_row_and_a_third_reads_the_sum(
    stored: Rows, reopen: Callable[[], Database]
) -> None:
    other = Rows(reopen())
    stored.add(seen(3).taken())
    other.add(seen(4).taken())
    stored.add(seen(5).taken())
    assert Rows(reopen()).counts(ROLLOUT.id).side("canary").requests == 12
    assert stored.counts("f" * 32).side("canary").requests == 0


def test_a_damaged_row_counts_as_none(stored: Rows, database: Database) -> None:
    stored.add(seen(3).taken())
    for text in ("", "{", "[]", '{"stages": 1}'):
        with database.write() as connection:
            connection.execute(count_table.update().values(counts=text))
        assert stored.counts(ROLLOUT.id).side("canary").requests == 0
    stored.add(seen(2).taken())
    assert stored.counts(ROLLOUT.id).side("canary").requests == 2


def test_pairs_are_the_same_after_they_were_stored(stored: Rows) -> None:
    second = Pair("sha256:2", "canary", 0.5, 3, WRONG, RIGHT)
    before = stored.stamp_of_pairs(ROLLOUT.id)
    for pair in (PAIR, second):
        assert stored.add_pair(ROLLOUT.id, pair)
    assert stored.pairs(ROLLOUT.id) == [PAIR, second]
    assert stored.pairs("f" * 32) == []
    assert stored.stamp_of_pairs(ROLLOUT.id) != before


def test_a_second_label_of_an_image_replaces_the_first(stored: Rows) -> None:
    stored.add_pair(ROLLOUT.id, PAIR)
    first = stored.stamp_of_pairs(ROLLOUT.id)
    corrected = replace(PAIR, stable=WRONG, candidate=RIGHT)
    stored.add_pair(ROLLOUT.id, corrected)
    assert stored.pairs(ROLLOUT.id) == [corrected]
    assert stored.stamp_of_pairs(ROLLOUT.id) != first


def test_a_rollout_keeps_a_bounded_number_of_pairs(stored: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_PAIRS", 3)
    kept = [stored.add_pair(ROLLOUT.id, replace(PAIR, digest=f"sha256:{number}")) for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert stored.add_pair(ROLLOUT.id, replace(PAIR, digest="sha256:0", side="canary"))
    assert len(stored.pairs(ROLLOUT.id)) == 3


def test_a_rollout_that_ended_is_forgotten_after_a_day_and_one_that_runs_is_not(
    stored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.add(seen(1).taken())
    stored.add_pair(ROLLOUT.id, PAIR)
    stored.add_pair("2" * 32, PAIR)
    stored.forget([])
    assert len(stored.pairs(ROLLOUT.id)) == 1
    monkeypatch.setattr(rows, "KEPT_S", -60.0)
    stored.forget([ROLLOUT.id])
    assert (len(stored.pairs(ROLLOUT.id)), stored.pairs("2" * 32)) == (1, [])
    stored.forget([])
    assert stored.pairs(ROLLOUT.id) == []
    assert stored.counts(ROLLOUT.id).stages == {}
