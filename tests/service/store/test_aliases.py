"""The rollouts of aliases: what is stored, which events that gives, and what keeps the versions of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters import Manifest, parse_adapter
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import Forbidden, NotFound, PreconditionFailed, RequestInvalid, VersionDeleted
from lensmount_service.rollout_spec import Canary, Rollout, Rules, Shadow
from lensmount_service.store.adapter_rows import alias_table
from lensmount_service.store.aliases import MOST_EVENTS, By, Running
from lensmount_service.store.database import Database
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry, Version

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter

READER = By("reader1", is_admin=False)


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    return parse_adapter(make_adapter(1)).manifest


@pytest.fixture
def registry(database: Database, manifest: Manifest) -> Registry:
    """`cells` with the versions 1 to 4."""
    registry = Registry(database)
    for number in range(1, 5):
        registry.publish("cells", f"sha256:{number:064x}", 10, manifest)
    return registry


def rollout(digit: int = 1, canary: Canary | None = Canary(2, 10), shadow: Shadow | None = None) -> Rollout:
    return Rollout(f"{digit:032x}", 1, canary, shadow, Rules(), started_by="reader1")


def told(registry: Registry, alias: str = "prod") -> list[str]:
    return [event.what for event in registry.rollout_events("cells", alias)]


def prod(registry: Registry) -> Version:
    return registry.resolve(Reference("cells", alias="prod"))


def test_a_rollout_is_there_for_another_process_with_the_version_of_its_alias(
    registry: Registry, reopen: Callable[[], Database]
) -> None:
    made = registry.set_alias("cells", "prod", 1, rollout=rollout(), by=READER)
    assert made.rollout is not None
    assert (made.version, made.alias, made.rollout.canary) == (1, "prod", Canary(2, 10))
    assert made.rollout.started_at > 1e9
    other = Registry(reopen())
    assert prod(other) == made
    assert other.rollouts() == [Running("cells", "prod", made.rollout)]
    assert other.entry("cells").rollouts == {"prod": made.rollout}
    assert other.entries()[0].rollouts == {"prod": made.rollout}
    (event,) = other.rollout_events("cells", "prod")
    assert (event.what, event.actor, event.rollout) == ("started", "reader1", made.rollout.id)
    assert event.evidence["canary"] == {"version": 2, "percent": 10, "key": "request"}


def test_the_same_rollout_again_changes_nothing_and_meets_the_etag_of_the_first_try(registry: Registry) -> None:
    before = registry.set_alias("cells", "prod", 1)
    assert before.alias_tag is not None
    seen = Precondition(if_match=frozenset({before.alias_tag}))
    made = registry.set_alias("cells", "prod", 1, rollout=rollout(1), expected=seen)
    again = registry.set_alias("cells", "prod", 1, rollout=rollout(2), expected=seen)
    assert again == made
    assert made.alias_tag != before.alias_tag
    assert told(registry) == ["started"]
    with pytest.raises(PreconditionFailed):
        registry.set_alias("cells", "prod", 1, rollout=rollout(3, Canary(2, 20)), expected=seen)
    assert told(registry) == ["started"]


def test_a_higher_percentage_is_the_same_rollout_and_another_version_is_a_new_one(registry: Registry) -> None:
    first = registry.set_alias("cells", "prod", 1, rollout=rollout(1)).rollout
    raised = registry.set_alias("cells", "prod", 1, rollout=rollout(2, Canary(2, 50))).rollout
    assert first is not None
    assert raised is not None
    assert raised == replace(first, canary=Canary(2, 50))
    other = registry.set_alias("cells", "prod", 1, rollout=rollout(3, Canary(3, 50))).rollout
    assert other is not None
    assert (other.id, other.salt == first.salt) == (f"{3:032x}", False)
    assert told(registry) == ["started", "changed", "ended", "started"]


@pytest.mark.parametrize(
    ("number", "what"), [(1, "rolled_back"), (2, "promoted"), (4, "ended")], ids=["stable", "canary", "another"]
)
def test_pointing_an_alias_at_a_version_ends_its_rollout(registry: Registry, number: int, what: str) -> None:
    registry.set_alias("cells", "prod", 1, Overrides(), rollout=rollout(shadow=Shadow(3)))
    assert registry.set_alias("cells", "prod", number, by=READER).rollout is None
    assert registry.rollouts() == []
    event = registry.rollout_events("cells", "prod")[-1]
    assert (event.what, event.actor, event.evidence) == (what, "reader1", {"version": number})


def test_a_rollout_is_promoted_or_rolled_back_once_and_again_without_a_change(registry: Registry) -> None:
    for how, number in (("promoted", 2), ("rolled_back", 1)):
        registry.set_alias("cells", "prod", 1, rollout=rollout())
        ended = registry.end_rollout("cells", "prod", how, by=By("reader1", evidence={"why": "x"}))  # type: ignore[arg-type]
        assert (ended.version, ended.rollout) == (number, None)
        before = told(registry)
        assert registry.end_rollout("cells", "prod", how) == ended  # type: ignore[arg-type]
        assert told(registry) == before
        assert registry.rollout_events("cells", "prod")[-1].evidence == {"version": number, "why": "x"}
    with pytest.raises(NotFound, match="The last one was rolled back") as refused:
        registry.end_rollout("cells", "prod", "promoted")
    assert refused.value.code == "rollout_not_found"


def test_a_shadow_alone_is_the_candidate(registry: Registry) -> None:
    registry.set_alias("cells", "prod", 1, rollout=rollout(canary=None, shadow=Shadow(3)))
    assert registry.end_rollout("cells", "prod", "promoted").version == 3


def test_of_two_servers_that_roll_back_only_the_first_does_and_no_later_rollout_is_hit(registry: Registry) -> None:
    judged = registry.set_alias("cells", "prod", 1, rollout=rollout(1)).rollout
    assert judged is not None
    registry.end_rollout("cells", "prod", "rolled_back", only=judged.id)
    registry.end_rollout("cells", "prod", "rolled_back", only=judged.id)
    assert told(registry) == ["started", "rolled_back"]
    registry.set_alias("cells", "prod", 1, rollout=rollout(2, Canary(3, 5)))
    with pytest.raises(NotFound, match="no rollout"):
        registry.end_rollout("cells", "prod", "rolled_back", only=judged.id)
    assert prod(registry).rollout is not None


def test_without_a_rollout_there_is_nothing_to_end(registry: Registry) -> None:
    registry.set_alias("cells", "prod", 1)
    with pytest.raises(NotFound, match="Fix: start one") as refused:
        registry.end_rollout("cells", "prod", "rolled_back")
    assert refused.value.code == "rollout_not_found"
    with pytest.raises(NotFound, match="no alias 'next'"):
        registry.end_rollout("cells", "next", "rolled_back")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (rollout(canary=None), "neither a canary nor a shadow"),
        (rollout(canary=Canary(1, 10)), "version 1 as the canary"),
        (rollout(shadow=Shadow(1)), "version 1 as the shadow"),
        (rollout(canary=Canary(9, 10)), "no version 9"),
        (rollout(shadow=Shadow(4)), "version 4 of 'cells' was deleted"),
    ],
)
def test_a_rollout_of_versions_that_cannot_be_compared_is_refused(
    registry: Registry, wanted: Rollout, problem: str
) -> None:
    registry.delete("cells", 4)
    registry.set_alias("cells", "prod", 3)
    with pytest.raises((RequestInvalid, NotFound, VersionDeleted), match=problem):
        registry.set_alias("cells", "prod", 1, rollout=wanted)
    assert (prod(registry).version, told(registry)) == (3, [])


def test_only_an_administrator_changes_or_ends_the_rollout_of_a_protected_alias(registry: Registry) -> None:
    registry.set_alias("cells", "prod", 1, rollout=rollout(), protected=True)
    changes: list[Callable[[], object]] = [
        lambda: registry.set_alias("cells", "prod", 1, rollout=rollout(2, Canary(2, 90)), by=READER),
        lambda: registry.end_rollout("cells", "prod", "promoted", by=READER),
        lambda: registry.delete_alias("cells", "prod", by=READER),
        lambda: registry.delete("cells", 2, is_admin=False),
        lambda: registry.delete("cells", 1, is_admin=False),
    ]
    for change in changes:
        with pytest.raises(Forbidden, match="protected"):
            change()
    registry.delete("cells", 3, is_admin=False)
    assert told(registry) == ["started"]
    registry.end_rollout("cells", "prod", "promoted")
    with pytest.raises(Forbidden):
        registry.set_alias("cells", "prod", 1, by=READER)  # it is protected still


def test_the_versions_of_a_rollout_are_not_retired(registry: Registry) -> None:
    registry.set_alias("cells", "prod", 4, rollout=rollout(canary=Canary(1, 10), shadow=Shadow(2)))
    assert registry.retire(keep=1) == 1
    assert [version.version for version in registry.entry("cells").versions] == [1, 2, 4]


def test_a_rollout_comes_back_with_its_alias_and_is_forgotten_with_it(registry: Registry) -> None:
    made = registry.set_alias("cells", "prod", 1, rollout=rollout())
    registry.delete("cells", 1)
    assert registry.rollouts() == []
    registry.undelete("cells", 1)
    assert prod(registry) == made
    registry.delete("cells", 1)
    assert registry.forget_deleted(older_than_s=0) == 1
    assert told(registry) == []
    registry.set_alias("cells", "prod", 2, rollout=rollout(canary=Canary(3, 1)))
    registry.delete_alias("cells", "prod")
    assert told(registry) == []
    registry.set_alias("cells", "prod", 2, rollout=rollout(canary=Canary(3, 1)))
    registry.delete("cells", purge=True)
    assert told(registry) == []


def test_a_candidate_that_was_deleted_leaves_the_stable_version_and_cannot_be_promoted(registry: Registry) -> None:
    registry.set_alias("cells", "prod", 1, rollout=rollout())
    registry.delete("cells", 2)
    assert prod(registry).version == 1
    with pytest.raises(VersionDeleted):
        registry.end_rollout("cells", "prod", "promoted")
    assert registry.end_rollout("cells", "prod", "rolled_back").version == 1


def test_an_alias_keeps_its_newest_events(registry: Registry) -> None:
    for number in range(MOST_EVENTS + 5):
        registry.set_alias("cells", "prod", 1, rollout=rollout(1, Canary(2, number % 100)))
    registry.set_alias("cells", "next", 1, rollout=rollout())
    events = registry.rollout_events("cells", "prod")
    assert len(events) == MOST_EVENTS
    assert {event.what for event in events} == {"changed"}
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert told(registry, "next") == ["started"]


def test_a_damaged_rollout_counts_as_none(registry: Registry, database: Database) -> None:
    registry.set_alias("cells", "prod", 1, rollout=rollout())
    with database.write() as connection:
        connection.execute(alias_table.update().values(rollout='{"id": 1'))
    assert (prod(registry).version, prod(registry).rollout, registry.rollouts()) == (1, None, [])
    assert registry.set_alias("cells", "prod", 1, rollout=rollout()).rollout is not None


def test_tenants_have_their_own_rollouts(registry: Registry, manifest: Manifest) -> None:
    for name in ("lab-a/cells", "lab-b/cells"):
        for number in (1, 2):
            registry.publish(name, f"sha256:{number:064x}", 10, manifest)
        registry.set_alias(name, "prod", 1, rollout=rollout())
    registry.set_alias("cells", "prod", 1, rollout=rollout())
    found = {tenant: [each.name for each in registry.rollouts(tenant)] for tenant in ("default", "lab-a", "lab-b")}
    assert found == {"default": ["cells"], "lab-a": ["lab-a/cells"], "lab-b": ["lab-b/cells"]}
    salts = {running.rollout.salt for running in registry.rollouts()}
    assert len(salts) == 3
