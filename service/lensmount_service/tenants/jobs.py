"""The jobs of one tenant, their files and what they publish. A job of another tenant does not exist."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import sqlalchemy as sa

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_service.jobs.files import JobFile, JobFiles
from lensmount_service.jobs.publishing import Publisher
from lensmount_service.jobs.records import Event, Job, JobRequest, State
from lensmount_service.jobs.table import JobTable
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.registry import Version
from lensmount_service.tenants.space import Space


@dataclass(frozen=True, slots=True)
class TenantJobs:
    """`jobs.get(job_id)`: what clients do with jobs, for one tenant; safe from any thread."""

    table: JobTable
    space: Space

    def submit(
        self,
        request: JobRequest,
        key: str | None = None,
        request_digest: str | None = None,
        check: Callable[[sa.Connection], object] | None = None,
        expected: Precondition = ANY,
    ) -> tuple[Job, bool]:
        """An idempotency key is known to its own tenant only."""
        caller = self.space.identity
        mine = replace(request, tenant=caller.tenant, owner=caller.actor, by_admin=caller.may("admin"))
        return self.table.submit(mine, key, request_digest, check, expected)

    def get(self, job_id: str) -> Job:
        return self.table.get(job_id, self.space.tenant)

    def list(self, state: State | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        return self.table.list(state, limit, before, self.space.tenant)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[Job, tuple[Event, ...]]:
        self.get(job_id)
        return self.table.events(job_id, after, limit)

    def histories(self, jobs: Sequence[Job]) -> dict[str, tuple[dict[str, Any], ...]]:
        """Of jobs that were read here, so that they are the tenant's own."""
        return self.table.histories([job.id for job in jobs])

    def cancel(self, job_id: str, expected: Precondition = ANY) -> Job:
        self.get(job_id)
        return self.table.cancel(job_id, expected)

    def retry(
        self,
        job_id: str,
        check: Callable[[sa.Connection, Job], object] | None = None,
        expected: Precondition = ANY,
        traceparent: str = "",
    ) -> Job:
        """It counts for the caller, like a new one."""
        self.get(job_id)
        return self.table.retry(job_id, check, self.space.identity.actor, expected, traceparent)


@dataclass(frozen=True, slots=True)
class TenantJobFiles:
    """`files.open(job_id, "card.md")`: the methods of JobFiles for one tenant."""

    files: JobFiles
    jobs: TenantJobs

    async def receive(self, job_id: str, token: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        await to_thread(self.jobs.get, job_id)
        await self.files.receive(job_id, token, name, chunks)

    def open(self, job_id: str, name: str) -> BinaryIO:
        self.jobs.get(job_id)
        return self.files.open(job_id, name)

    def list(self, job_id: str) -> tuple[JobFile, ...]:
        self.jobs.get(job_id)
        return self.files.list(job_id)

    def delete(self, job_id: str, expected: Precondition = ANY) -> None:
        self.jobs.get(job_id)
        self.files.delete(job_id, expected)


@dataclass(frozen=True, slots=True)
class TenantPublisher:
    """The method of Publisher for one tenant. `TenantAdapters.upload` calls it with the key of the adapter."""

    publisher: Publisher
    jobs: TenantJobs

    def publish(
        self, job_id: str, token: str, alias: str | None, key: str, adapter: Adapter, signature: str | None = None
    ) -> tuple[Version, bool]:
        self.jobs.get(job_id)
        return self.publisher.publish(job_id, token, alias, key, adapter, signature)
