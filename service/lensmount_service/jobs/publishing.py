"""Publish the adapter that a job trained; version, alias, publication and the job's end are one transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.faults import fault
from lensmount_service.errors import JobConflict, NotFound, RequestInvalid, VersionDeleted
from lensmount_service.jobs.files import JobFiles
from lensmount_service.jobs.records import Published
from lensmount_service.jobs.table import JobTable
from lensmount_service.rollout_spec import Canary, Rollout
from lensmount_service.store.aliases import By, Target
from lensmount_service.store.database import Database
from lensmount_service.store.references import Reference, require_name
from lensmount_service.store.registry import Registry, Version


@dataclass(frozen=True, slots=True)
class Publisher:
    """`Publisher(database, registry, jobs, files).publish(job_id, token, "prod", "malaria", adapter)`."""

    database: Database
    registry: Registry
    jobs: JobTable
    files: JobFiles

    def publish(
        self, job_id: str, token: str, alias: str | None, name: str, adapter: Adapter, signature: str | None = None
    ) -> tuple[Version, bool]:
        """Return the new version and True, or the version that this job published before and False.

        Raises NotFound (`job_not_found`), LeaseLost, Forbidden (`alias_protected`), RequestInvalid if the job is for
        another name or alias, or JobConflict: `job_cancelled`, or `gate_stale` if the version that the gate compared
        with has been replaced.
        """
        if alias is not None:
            require_name(alias, "alias")
        with self.database.write() as connection:
            earlier = self.jobs.publication(connection, job_id, token)
            if earlier is not None:
                return self.registry.find(connection, Reference(earlier.name, earlier.version)), False
            row = self.jobs.require_lease(connection, job_id, token)
            if (row.adapter, row.alias) != (name, alias):
                raise RequestInvalid(
                    f"found an upload to {_shown(name, alias)}, expected the job's {_shown(row.adapter, row.alias)}"
                )
            if not row.force:
                self._require_fresh_gate(connection, row.outcome, Reference(name, alias=alias))
            what = (adapter.digest, adapter.size_bytes, adapter.manifest)
            version, created = self.registry.add(connection, name, *what, row.owner, signature)
            fault("publishing.version")
            if alias is not None:
                by = By(row.owner, bool(row.by_admin), {"job": job_id})
                self.registry.point(connection, name, alias, self._target(connection, row, version.version), by)
            fault("publishing.alias")
            self.jobs.succeed(connection, job_id, token, Published(name, version.version), version.digest)
            self.files.drop_checkpoint(connection, job_id)
        return version, created

    def _target(self, connection: sa.Connection, row: Any, new: int) -> Target:
        """The new version; or for a job with `canary` the present one, and the new one gets that percentage."""
        stable = new if row.canary is None else self._present(connection, Reference(row.adapter, alias=row.alias))
        if stable in (None, new):  # a new alias, or the same bytes again
            return Target(new)
        canary = Canary(new, row.canary)
        return Target(stable, rollout=Rollout(uuid.uuid4().hex, stable, canary, started_by=row.owner))

    def _present(self, connection: sa.Connection, reference: Reference) -> int | None:
        try:
            return self.registry.find(connection, reference).version
        except (NotFound, VersionDeleted):
            return None

    def _require_fresh_gate(
        self, connection: sa.Connection, outcome: dict[str, Any] | None, reference: Reference
    ) -> None:
        compared_with = ((outcome or {}).get("gate") or {}).get("replaced") or {}
        try:
            current: str | None = self.registry.find(connection, reference).digest
        except (NotFound, VersionDeleted):
            current = None
        if compared_with.get("digest") != current:
            raise JobConflict(
                f"found a version behind {_shown(reference.name, reference.alias)} that the gate did not compare with. "
                "Fix: run the gate again",
                code="gate_stale",
            )


def _shown(name: str, alias: str | None) -> str:
    return f"{name}:{alias}" if alias else name
