from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters import Manifest, parse_adapter
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import NotFound, PreconditionFailed, RequestInvalid, VersionDeleted
from lensmount_service.store.database import Database
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeTrusted


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    return parse_adapter(make_adapter(1)).manifest


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def test_versions_count_up_and_what_was_published_is_there_for_another_process(
    registry: Registry, manifest: Manifest, reopen: Callable[[], Database]
) -> None:
    assert [registry.publish("cells", digest(n), 10, manifest)[0].version for n in (1, 2, 3)] == [1, 2, 3]

    other = Registry(reopen())
    assert other.resolve(Reference("cells")).digest == digest(3)
    assert other.resolve(Reference("cells", version=1)).digest == digest(1)
    assert other.resolve(Reference("cells", digest=digest(2))).version == 2


def test_the_latest_digest_of_each_name_is_that_of_its_newest_version_that_is_left(
    registry: Registry, manifest: Manifest
) -> None:
    for name, numbers in {"cells": range(1, 12), "tiles": (20, 21), "gone": (30,)}.items():
        for number in numbers:
            registry.publish(name, digest(number), 10, manifest)
    registry.delete("tiles", 2)
    registry.delete("gone")
    assert registry.latest_digests() == {"cells": digest(11), "tiles": digest(20)}


def test_deleting_the_latest_brings_the_one_before_back(registry: Registry, manifest: Manifest) -> None:
    registry.publish("cells", digest(1), 10, manifest)
    registry.publish("cells", digest(2), 10, manifest)
    registry.set_alias("cells", "prod", 2)

    assert registry.delete("cells", 2) == [digest(2)]
    assert registry.resolve(Reference("cells")).version == 1
    with pytest.raises(VersionDeleted):
        registry.resolve(Reference("cells", version=2))
    with pytest.raises(NotFound, match="alias"):
        registry.resolve(Reference("cells", alias="prod"))


def test_a_digest_that_another_name_holds_is_not_given_up(registry: Registry, manifest: Manifest) -> None:
    registry.publish("cells", digest(1), 10, manifest)
    registry.publish("twin", digest(1), 10, manifest)

    assert registry.delete("cells") == []
    assert registry.delete("twin") == [digest(1)]
    with pytest.raises(NotFound):
        registry.resolve(Reference("cells"))


def test_racing_uploads_get_numbers_of_their_own(registry: Registry, manifest: Manifest) -> None:
    barrier = threading.Barrier(8)
    versions: list[int] = []

    def publish(number: int) -> None:
        barrier.wait()
        for step in range(10):
            versions.append(registry.publish("cells", digest(number * 100 + step), 10, manifest)[0].version)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 81))


def test_what_another_process_publishes_deletes_or_points_at_is_answered_at_once(
    registry: Registry, manifest: Manifest, reopen: Callable[[], Database]
) -> None:
    other = Registry(reopen())
    name, alias = Reference("cells"), Reference("cells", alias="prod")
    for number in (1, 2, 3):
        other.publish("cells", digest(number), 10, manifest)
        assert [registry.resolve(name).version for _ in range(2)] == [number, number]
        other.set_alias("cells", "prod", number)
        assert [registry.resolve(alias).version for _ in range(2)] == [number, number]
    other.delete("cells", 3)
    assert registry.resolve(name).version == 2
    with pytest.raises(NotFound, match="alias"):
        registry.resolve(alias)
    other.delete("cells")
    with pytest.raises(NotFound):
        registry.resolve(name)


def test_a_version_is_cached_until_anything_is_committed(tmp_path: Path, manifest: Manifest) -> None:
    database = Database(tmp_path / "registry.sqlite3")
    registry = Registry(database)
    registry.publish("cells", digest(1), 10, manifest)

    assert registry.resolve_cached(Reference("cells")) is None
    assert registry.resolve(Reference("cells")) is registry.resolve_cached(Reference("cells"))
    registry.publish("tiles", digest(2), 10, manifest)
    assert registry.resolve_cached(Reference("cells")) is None
    database.close()


@pytest.fixture
def measured(make_trusted: MakeTrusted) -> Manifest:
    return parse_adapter(make_trusted()).manifest


def test_the_thresholds_of_an_alias_are_there_for_another_process_and_stay_when_it_moves(
    registry: Registry, measured: Manifest, reopen: Callable[[], Database]
) -> None:
    for number in (1, 2):
        registry.publish("cells", digest(number), 10, measured)
    sure, alias = Overrides(accept_confidence=0.9), Reference("cells", alias="prod")
    assert registry.set_alias("cells", "prod", 1, sure).thresholds == sure

    other = Registry(reopen())
    assert (other.resolve(alias).version, other.resolve(alias).thresholds) == (1, sure)
    assert other.set_alias("cells", "prod", 2).thresholds == sure
    assert (registry.resolve(alias).version, registry.resolve(alias).thresholds) == (2, sure)
    assert registry.entry("cells").thresholds == registry.entries()[0].thresholds == {"prod": sure}
    assert registry.resolve(Reference("cells")).thresholds == Overrides()  # they belong to the alias
    other.set_alias("cells", "prod", 2, Overrides())
    assert registry.resolve(alias).thresholds == Overrides()
    assert registry.entry("cells").thresholds == {}
    registry.set_alias("cells", "prod", 2, sure)
    registry.delete_alias("cells", "prod")
    assert registry.set_alias("cells", "prod", 2).thresholds == Overrides()


def test_a_threshold_of_what_was_not_measured_is_refused_and_the_advice_works(
    registry: Registry, manifest: Manifest, make_trusted: MakeTrusted
) -> None:
    registry.publish("plain", digest(1), 10, manifest)
    registry.publish("unseen", digest(2), 10, parse_adapter(make_trusted(familiarity=None)).manifest)
    with pytest.raises(RequestInvalid, match=r"found 0.9 for plain@1, which was trained without calibration.*Fix: "):
        registry.set_alias("plain", "prod", 1, Overrides(accept_confidence=0.9))
    with pytest.raises(RequestInvalid, match=r"found 99 for unseen@1, which was trained without statistics.*leave"):
        registry.set_alias("unseen", "prod", 1, Overrides(0.9, 99))
    with pytest.raises(NotFound):
        registry.resolve(Reference("unseen", alias="prod"))
    registry.set_alias("plain", "prod", 1, Overrides())
    assert registry.set_alias("unseen", "prod", 1, Overrides(0.9)).thresholds == Overrides(0.9)


def test_what_was_deleted_is_needed_until_it_is_forgotten(registry: Registry, manifest: Manifest) -> None:
    registry.publish("cells", digest(1), 10, manifest)
    registry.set_alias("cells", "prod", 1, Overrides())
    registry.delete("cells")
    assert registry.digests() == {digest(1)}
    assert [(each.version.name, each.version.version) for each in registry.deleted()] == [("cells", 1)]
    assert registry.forget_deleted(older_than_s=60) == 0
    assert registry.undelete("cells") == [1]
    assert registry.resolve(Reference("cells", alias="prod")).version == 1

    registry.delete("cells")
    assert registry.forget_deleted(older_than_s=0) == 1
    assert registry.digests() == set()
    with pytest.raises(NotFound):
        registry.undelete("cells")
    assert registry.publish("cells", digest(1), 10, manifest)[0].version == 2
    with pytest.raises(VersionDeleted) as gone:
        registry.undelete("cells", 1)
    assert "undelete" not in str(gone.value)
    with pytest.raises(NotFound):
        registry.undelete("cells", 9)


def test_an_alias_that_was_set_again_stays_where_it_is(registry: Registry, manifest: Manifest) -> None:
    for number in (1, 2):
        registry.publish("cells", digest(number), 10, manifest)
    registry.set_alias("cells", "prod", 1)
    registry.set_alias("cells", "old", 1)
    registry.delete("cells", 1)
    registry.set_alias("cells", "prod", 2)
    registry.undelete("cells", 1)
    assert registry.entry("cells").aliases == {"prod": 2, "old": 1}


def test_only_the_newest_versions_and_those_of_aliases_are_kept(registry: Registry, manifest: Manifest) -> None:
    for number in range(1, 7):
        registry.publish("cells", digest(number), 10, manifest)
    registry.set_alias("cells", "prod", 2)
    assert registry.retire(keep=2) == 3
    assert [version.version for version in registry.entry("cells").versions] == [2, 5, 6]
    assert registry.retire(keep=2) == 0
    assert registry.undelete("cells", 1) == [1]


def test_of_two_writers_that_saw_the_same_version_the_second_one_is_refused(
    registry: Registry, manifest: Manifest, reopen: Callable[[], Database]
) -> None:
    other = Registry(reopen())
    registry.publish("cells", digest(1), 10, manifest)
    seen = Precondition(if_match=frozenset({digest(1)}))
    registry.require("cells", seen, digest(2))  # both look before they write, and both see version 1
    other.require("cells", seen, digest(3))

    registry.publish("cells", digest(2), 10, manifest, expected=seen)
    with pytest.raises(PreconditionFailed):
        other.publish("cells", digest(3), 10, manifest, expected=seen)

    assert [version.digest for version in registry.entry("cells").versions] == [digest(1), digest(2)]
