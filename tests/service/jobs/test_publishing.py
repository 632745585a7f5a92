"""Publishing is one transaction: version, alias, publication and the job's end, or nothing of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensmount_adapters import Adapter, Manifest, Preprocessing
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.backbone.fingerprint import BackboneRef
from lensmount_service.errors import Forbidden, JobConflict, LeaseLost, RequestInvalid
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable
from lensmount_service.rollout_spec import Canary
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry, Version

if TYPE_CHECKING:
    from tests.service.jobs.conftest import Submit

BACKBONE = "sha256:" + "b" * 64  # as in conftest.py


@pytest.fixture
def publisher(jobs: JobTable, tmp_path: Path) -> Publisher:
    return Publisher(jobs.database, Registry(jobs.database), jobs, JobFiles(tmp_path / "jobs", jobs))


def adapter(digit: int = 0) -> Adapter:
    """All that publishing reads of an adapter."""
    manifest = Manifest(
        name="malaria",
        method="lora",
        backbone=BackboneRef(name="resnet10t", fingerprint=BACKBONE),
        preprocessing=Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        labels=("a", "b"),
        head=LinearHead(),
        modules={},
    )
    return cast(Adapter, SimpleNamespace(digest=f"sha256:{digit:064}", size_bytes=10, manifest=manifest))


def claimed(jobs: JobTable, submit: Submit, **changes: Any) -> Lease:
    submit(jobs, **changes)
    lease = jobs.claim("w", BACKBONE)
    assert lease is not None
    return lease


def test_a_publication_makes_the_version_points_the_alias_and_ends_the_job(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    lease = claimed(jobs, submit, alias="prod")
    jobs.store_outcome(lease, {"published": False, "gate": {"replaced": None}})
    version, created = publisher.publish(lease.id, lease.token, "prod", "malaria", adapter())

    assert (version.name, version.version, created) == ("malaria", 1, True)
    found = publisher.registry.resolve(Reference("malaria", alias="prod"))
    assert found.alias_tag is not None
    assert replace(found, alias_tag=None, alias=None) == version
    ended = jobs.get(lease.id)
    assert ended.outcome is not None
    assert (ended.state, ended.outcome["published"]) == ("succeeded", True)
    assert ended.outcome["adapter"] == {"name": "malaria", "version": 1, "digest": version.digest}


def aliases(publisher: Publisher, alias: str = "prod") -> Version:
    return publisher.registry.resolve(Reference("malaria", alias=alias))


def test_with_a_canary_an_alias_stays_and_the_new_version_gets_the_percentage(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    first, _ = publisher.registry.publish("malaria", adapter(1).digest, 10, adapter().manifest)
    publisher.registry.set_alias("malaria", "prod", 1)
    for digit, percent in ((2, 10.0), (3, 0.0)):
        lease = claimed(jobs, submit, alias="prod", canary=percent, owner="reader1")
        jobs.store_outcome(lease, {"published": False, "gate": {"replaced": {"digest": first.digest}}})
        version, created = publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(digit))
        assert (version.version, created) == (digit, True)
        found = aliases(publisher)
        assert found.version == 1
        assert found.rollout is not None
        assert found.rollout.canary == Canary(digit, percent, "request")
        assert (found.rollout.stable, found.rollout.shadow, found.rollout.started_by) == (1, None, "reader1")
        assert publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(digit)) == (version, False)
    events = publisher.registry.rollout_events("malaria", "prod")
    assert [(event.what, event.actor) for event in events] == [
        ("started", "reader1"),
        ("ended", "reader1"),  # the second job's version takes the place of the first one's
        ("started", "reader1"),
    ]


def test_with_a_canary_a_new_alias_is_set_and_the_same_bytes_again_are_no_canary(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    for replaced in (None, {"digest": adapter(1).digest}):
        lease = claimed(jobs, submit, alias="prod", canary=10.0)
        jobs.store_outcome(lease, {"published": False, "gate": {"replaced": replaced}})
        assert publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(1))[0].version == 1
        assert (aliases(publisher).version, aliases(publisher).rollout) == (1, None)


def test_with_a_canary_the_gate_must_have_compared_with_the_stable_version(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    publisher.registry.publish("malaria", adapter(1).digest, 10, adapter().manifest)
    publisher.registry.set_alias("malaria", "prod", 1)
    lease = claimed(jobs, submit, alias="prod", canary=10.0)
    jobs.store_outcome(lease, {"published": False, "gate": {"replaced": {"digest": adapter(9).digest}}})
    with pytest.raises(JobConflict) as refused:
        publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(2))
    assert refused.value.code == "gate_stale"
    assert (aliases(publisher).version, aliases(publisher).rollout) == (1, None)


@pytest.mark.parametrize("by_admin", [False, True])
def test_only_an_administrators_job_starts_a_canary_of_a_protected_alias(
    publisher: Publisher, jobs: JobTable, submit: Submit, by_admin: bool
) -> None:
    publisher.registry.publish("malaria", adapter(1).digest, 10, adapter().manifest)
    publisher.registry.set_alias("malaria", "prod", 1, protected=True)
    lease = claimed(jobs, submit, alias="prod", canary=10.0, by_admin=by_admin)
    jobs.store_outcome(lease, {"published": False, "gate": {"replaced": {"digest": adapter(1).digest}}})
    if by_admin:
        publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(2))
        assert aliases(publisher).rollout is not None
    else:
        with pytest.raises(Forbidden) as refused:
            publisher.publish(lease.id, lease.token, "prod", "malaria", adapter(2))
        assert refused.value.code == "alias_protected"
        assert aliases(publisher).rollout is None


def test_asking_again_with_the_same_lease_gives_the_same_version(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    lease = claimed(jobs, submit)
    first, _ = publisher.publish(lease.id, lease.token, None, "malaria", adapter())
    assert publisher.publish(lease.id, lease.token, None, "malaria", adapter()) == (first, False)
    assert [version.version for entry in publisher.registry.entries() for version in entry.versions] == [1]


def test_what_is_refused_publishes_nothing_and_leaves_the_job_with_its_worker(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    lease = claimed(jobs, submit)
    with pytest.raises(RequestInvalid, match="expected the job's malaria"):
        publisher.publish(lease.id, lease.token, None, "tiles", adapter())
    with pytest.raises(RequestInvalid, match="found an upload to malaria:prod"):
        publisher.publish(lease.id, lease.token, "prod", "malaria", adapter())
    with pytest.raises(LeaseLost):
        publisher.publish(lease.id, "0" * 32, None, "malaria", adapter())
    assert publisher.registry.entries() == []
    assert jobs.get(lease.id).state == "running"


def test_a_version_that_the_gate_did_not_compare_with_is_refused_unless_the_job_says_force(
    publisher: Publisher, jobs: JobTable, submit: Submit
) -> None:
    publisher.registry.publish("malaria", adapter(1).digest, 10, adapter().manifest)
    lease, forced = claimed(jobs, submit), claimed(jobs, submit, force=True)
    with pytest.raises(JobConflict) as refused:
        publisher.publish(lease.id, lease.token, None, "malaria", adapter(2))
    assert refused.value.code == "gate_stale"
    assert publisher.publish(forced.id, forced.token, None, "malaria", adapter(2))[0].version == 2
