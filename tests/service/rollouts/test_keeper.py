"""The keeper stores evidence, and takes back what breaks a rule: once, whichever of several servers is the first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters import Manifest, parse_adapter
from lensmount_service.errors import Unavailable
from lensmount_service.metrics import Metrics
from lensmount_service.rollout_spec import Canary, Rollout, Shadow
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.keeper import Keeper
from lensmount_service.rollouts.rows import Rows
from lensmount_service.rollouts.rules import Finding
from lensmount_service.store.aliases import Running
from lensmount_service.store.database import Database
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry, Version

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, Until


class Server:
    """The parts of one of several servers on a database."""

    def __init__(self, database: Database) -> None:
        self.registry = Registry(database)
        self.evidence = Evidence()
        self.metrics = Metrics("1", "b", "f")
        self.rows = Rows(database)
        self.told: list[tuple[Running, list[str]]] = []
        self.keeper = Keeper(database, self.evidence, self.metrics, tell=self.tell)

    def tell(self, running: Running, findings: Sequence[Finding]) -> None:
        self.told.append((running, [finding.rule for finding in findings]))

    def start(self, rollout: Rollout) -> Rollout:
        made = self.registry.set_alias("cells", "prod", 1, rollout=rollout).rollout
        assert made is not None
        return made

    def prod(self) -> Version:
        return self.registry.resolve(Reference("cells", alias="prod"))

    def sees(self, rollout: Rollout, *, failing: bool, requests: int = 100) -> None:
        for _ in range(requests):
            self.evidence.sample(rollout, "stable").request(200, 1, 0.01)
            canary = self.evidence.sample(rollout, "canary")
            canary.request(*((503, 0, 0.0, "forward_failed") if failing else (200, 1, 0.01)))

    def value(self, line: str) -> float:
        found = [each for each in self.metrics.render().decode().splitlines() if each.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


ROLLOUT = Rollout("1" * 32, 1, Canary(2, 50))


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    return parse_adapter(make_adapter(1)).manifest


@pytest.fixture
def server(database: Database, manifest: Manifest) -> Server:
    """One with `cells@1` to `cells@3`."""
    made = Server(database)
    for number in (1, 2, 3):
        made.registry.publish("cells", f"sha256:{number:064x}", 10, manifest)
    return made


def test_a_canary_that_fails_is_taken_back_with_an_event_that_says_why(server: Server) -> None:
    rollout = server.start(ROLLOUT)
    server.sees(rollout, failing=True)
    server.keeper.turn()
    assert (server.prod().version, server.prod().rollout) == (1, None)
    event = server.registry.rollout_events("cells", "prod")[-1]
    assert (event.what, event.actor, event.evidence["findings"][0]["rule"]) == ("rolled_back", None, "errors")
    assert event.evidence["sides"]["canary"]["errors"] == {"forward_failed": 100}
    ((running, rules),) = server.told
    assert (running.alias, rules) == ("prod", ["errors"])
    assert server.value('lensmount_rollbacks_total{rule="errors"}') == 1
    server.keeper.turn()
    assert server.value("lensmount_rollouts ") == 0
    assert len(server.told) == 1


def test_a_canary_within_the_rules_stays(server: Server) -> None:
    rollout = server.start(ROLLOUT)
    for _ in range(5):
        server.sees(rollout, failing=False)
        server.keeper.turn()
    assert server.prod().rollout == rollout
    assert server.rows.counts(rollout.id).side("canary").requests == 500
    assert server.value("lensmount_rollouts ") == 1
    assert server.value('lensmount_rollout_requests_total{outcome="answered",side="canary"}') == 500
    assert server.value('lensmount_rollout_requests_total{outcome="failed",side="canary"}') == 0
    assert server.told == []


def test_a_shadow_that_answers_worse_is_told_and_not_taken_back(server: Server) -> None:
    rollout = server.start(Rollout("2" * 32, 1, shadow=Shadow(2)))
    for _ in range(100):
        server.evidence.shadowed(rollout, None, None, "forward_failed", 0.0)  # type: ignore[arg-type]  # of no answer
    server.keeper.turn()
    assert server.prod().rollout == rollout
    assert server.value('lensmount_shadow_images_total{outcome="failed"}') == 100


def test_two_servers_see_half_each_and_exactly_one_takes_back(server: Server, reopen: Callable[[], Database]) -> None:
    """Neither has seen enough alone; both find it at the same moment, and both serve the stable version then."""
    other = Server(reopen())
    rollout = server.start(ROLLOUT)
    assert other.prod().rollout == rollout
    for each in (server, other):
        each.sees(rollout, failing=True, requests=30)
        each.rows.add(each.evidence.taken())
    start = threading.Barrier(2)

    def turn(keeper: Keeper) -> None:
        start.wait()
        keeper.turn()

    threads = [threading.Thread(target=turn, args=(each.keeper,)) for each in (server, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.told) + len(other.told) == 1
    total = sum(each.value('lensmount_rollbacks_total{rule="errors"}') for each in (server, other))
    assert total == 1
    assert [event.what for event in server.registry.rollout_events("cells", "prod")] == ["started", "rolled_back"]
    assert (server.prod().rollout, other.prod().rollout) == (None, None)


def test_a_rollout_that_was_replaced_meanwhile_is_left_alone(server: Server) -> None:
    rollout = server.start(ROLLOUT)
    server.sees(rollout, failing=True)
    shown = server.keeper.shown.of(rollout)
    assert shown.findings
    server.start(Rollout("3" * 32, 1, Canary(3, 50)))
    assert not server.keeper.roll_back(Running("cells", "prod", rollout), shown)
    after = server.prod().rollout
    assert after is not None
    assert after.canary == Canary(3, 50)
    server.registry.delete_alias("cells", "prod")
    assert not server.keeper.roll_back(Running("cells", "prod", rollout), shown)
    assert server.told == []


def test_a_server_that_was_started_again_goes_on(server: Server, reopen: Callable[[], Database]) -> None:
    rollout = server.start(ROLLOUT)
    server.sees(rollout, failing=True, requests=20)
    server.keeper.turn()
    again = Server(reopen())
    again.sees(rollout, failing=True, requests=20)
    again.keeper.turn()
    assert again.rows.counts(rollout.id).side("canary").requests == 40
    again.sees(rollout, failing=True, requests=20)
    again.keeper.turn()
    assert again.prod().rollout is None


def test_evidence_that_cannot_be_stored_is_stored_later(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = server.start(ROLLOUT)
    server.sees(rollout, failing=False, requests=10)

    def fail(taken: object) -> None:
        raise Unavailable("the database is away", code="store_unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(server.keeper.rows, "add", fail)
        with pytest.raises(Unavailable):
            server.keeper.turn()
    server.sees(rollout, failing=False, requests=10)
    server.keeper.turn()
    assert server.rows.counts(rollout.id).side("canary").requests == 20


def test_evidence_of_a_rollout_that_ended_is_not_stored(server: Server) -> None:
    rollout = server.start(ROLLOUT)
    server.registry.end_rollout("cells", "prod", "promoted")
    server.sees(rollout, failing=True)
    server.keeper.turn()
    assert server.rows.counts(rollout.id).stages == {}
    assert server.prod().version == 2


def test_the_thread_looks_every_second_and_stores_the_last_evidence_when_it_ends(
    server: Server, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.rollouts.keeper.TURN_S", 0.01)
    rollout = server.start(ROLLOUT)
    with server.keeper:
        server.sees(rollout, failing=False, requests=1)
        until(lambda: server.rows.counts(rollout.id).side("canary").requests == 1)
        monkeypatch.setattr("lensmount_service.rollouts.keeper.TURN_S", 60)
        server.sees(rollout, failing=False, requests=1)
    assert server.rows.counts(rollout.id).side("canary").requests == 2


def test_a_turn_that_fails_for_any_reason_is_tried_again(
    server: Server, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.rollouts.keeper.TURN_S", 0.01)
    failures: list[str] = []

    def fail(running: object) -> None:
        failures.append("once")
        if len(failures) == 1:
            raise ZeroDivisionError

    server.keeper.prepare = fail
    server.sees(server.start(ROLLOUT), failing=True)
    with server.keeper:
        until(lambda: server.prod().rollout is None)
    assert len(failures) >= 2
    assert replace(ROLLOUT, id=server.told[0][0].rollout.id).canary == ROLLOUT.canary


def test_what_is_known_of_a_rollout_leaves_the_memory_when_it_ends(server: Server) -> None:
    by_client = server.start(replace(ROLLOUT, canary=Canary(2, 50, "client")))
    again: list[bool] = []
    for _ in range(2):
        server.evidence.sample(by_client, "canary", 0.25).image("a", "accept", 1.0)
        again.append(bool(server.evidence.pending(by_client.id).keys))
        server.keeper.turn()
    server.registry.end_rollout("cells", "prod", "promoted")
    server.keeper.turn()
    server.evidence.sample(by_client, "canary", 0.25).image("a", "accept", 1.0)
    again.append(bool(server.evidence.pending(by_client.id).keys))
    assert again == [True, False, True]  # the key is known until the rollout has ended
