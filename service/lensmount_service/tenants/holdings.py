"""What each token holds in the stores, and the limits on that: the bytes that are kept, and the jobs that wait.

What a token holds belongs to its name within its tenant, so that a rotated token holds what it held before. Use and
limits are read in the transaction that stores, so that they hold for all requests and servers of one database, and a
restart changes nothing. Of a file that several names have, each name counts; so nobody learns what others store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lensmount_service.access.identity import Quotas
from lensmount_service.access.tokens import Token, quotas_of
from lensmount_service.errors import QuotaExceeded, StoredTooMuch
from lensmount_service.jobs.records import ENDED
from lensmount_service.jobs.rows import of_tenant
from lensmount_service.jobs.schema import job_table
from lensmount_service.pools.rows import image_table
from lensmount_service.store.adapter_rows import version_table
from lensmount_service.store.database import Database
from lensmount_service.store.dataset_rows import dataset_table
from lensmount_service.store.keys import name_of, tenant_of, within
from lensmount_service.store.uploads import Uploads

RETRY_S = 60  # nobody knows when a worker takes a job; `jobs_full` says the same


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of one owner: what is live, what was deleted and can be undeleted, and uploads that are not complete."""

    live: int
    deleted: int
    unfinished: int

    @property
    def total(self) -> int:
        return self.live + self.deleted + self.unfinished


class Holdings:
    """`holdings.used("lab", "reader1")`; stores call `charge` and `charge_job`. Safe from any thread."""

    def __init__(self, database: Database, uploads: Uploads) -> None:
        self._database = database
        self._uploads = uploads

    def charge(
        self, connection: sa.Connection, key: str, owner: str | None, more: int, source: str | None = None
    ) -> None:
        """Raises StoredTooMuch if the owner may not store this many more bytes."""
        tenant = tenant_of(key)
        limit = quotas_of(connection, tenant, owner).stored_bytes
        if limit is None or owner is None:
            return
        upload = None if source is None else (key, source)
        held = self._held(connection, tenant, owner, upload)
        if held.total + more > limit and held.unfinished and self._uploads.drop_abandoned(tenant, owner):
            held = self._held(connection, tenant, owner, upload)
        if held.total + more > limit:
            raise StoredTooMuch(_refusal(held, more, limit, _largest(connection, tenant, owner)))

    def charge_job(self, connection: sa.Connection, tenant: str, owner: str | None) -> None:
        """Raises QuotaExceeded if no further job of the owner may wait, or nothing that a job makes could be stored."""
        limit = quotas_of(connection, tenant, owner).queued_jobs
        waiting = 0 if limit is None or owner is None else _waiting(connection, tenant, owner)
        if limit is not None and waiting >= limit:
            raise QuotaExceeded(
                f"found {waiting} jobs of this token that wait, expected at most {limit} (queued_jobs). "
                "Fix: submit this job when a worker has taken one of them, or cancel one: lensmount jobs cancel ID",
                retry_after_s=RETRY_S,
            )
        self.charge(connection, f"{tenant}/", owner, 1)

    def used(self, tenant: str, owner: str, quotas: Quotas) -> dict[str, float]:
        """What counts against these limits, by the name of the quota."""
        if quotas.stored_bytes is None and quotas.queued_jobs is None:
            return {}
        with self._database.read() as connection:
            return self._used(connection, tenant, owner, quotas)

    def used_by(self, tokens: Sequence[Token]) -> list[dict[str, float]]:
        """`used` of each of these tokens."""
        with self._database.read() as connection:
            return [self._used(connection, token.tenant, token.name, token.quotas) for token in tokens]

    def _used(self, connection: sa.Connection, tenant: str, owner: str, quotas: Quotas) -> dict[str, float]:
        used: dict[str, float] = {}
        if quotas.stored_bytes is not None:
            used["stored_bytes"] = float(self._held(connection, tenant, owner).total)
        if quotas.queued_jobs is not None:
            used["queued_jobs"] = float(_waiting(connection, tenant, owner))
        return used

    def _held(self, connection: sa.Connection, tenant: str, owner: str, but: tuple[str, str] | None = None) -> Held:
        live = deleted = 0
        for table, name in _VERSIONED:
            gone = sa.case((table.c.deleted, table.c.size_bytes), else_=0)
            query = sa.select(_sum(table.c.size_bytes), _sum(gone)).where(
                *_kept(table), *_of(table, name, tenant, owner)
            )
            size, size_deleted = connection.execute(query).one()
            live, deleted = live + int(size - size_deleted), deleted + int(size_deleted)
        images = sa.select(_sum(image_table.c.size_bytes)).where(*_of(image_table, "dataset", tenant, owner))
        files = sa.select(_sum(job_table.c.file_bytes)).where(job_table.c.owner == owner, of_tenant(tenant))
        live += sum(int(connection.execute(query).scalar_one()) for query in (images, files))
        return Held(live, deleted, self._uploads.held(tenant, owner, but))


_VERSIONED: tuple[tuple[sa.Table, str], ...] = ((version_table, "name"), (dataset_table, "name"))


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(column), 0)


def _of(table: sa.Table, name: str, tenant: str, owner: str) -> Iterator[sa.ColumnElement[bool]]:
    yield table.c.owner == owner
    yield within(table.c[name], tenant)


def _kept(table: sa.Table) -> Iterator[sa.ColumnElement[bool]]:
    """Versions whose files are kept: live ones, and those that can be undeleted."""
    yield sa.or_(~table.c.deleted, table.c.deleted_at.is_not(None))


def _waiting(connection: sa.Connection, tenant: str, owner: str) -> int:
    mine = job_table.c.state == "queued", job_table.c.owner == owner, of_tenant(tenant)
    return int(connection.execute(sa.select(sa.func.count()).select_from(job_table).where(*mine)).scalar_one())


def _largest(connection: sa.Connection, tenant: str, owner: str) -> str | None:
    """How to free the most: the largest version, deleted ones first, the largest pool, or the files of a job.

    None if nothing is held.
    """
    candidates: list[tuple[bool, int, str]] = []
    for table, kind in ((version_table, "adapters"), (dataset_table, "datasets")):
        mine = *_kept(table), *_of(table, "name", tenant, owner)
        query = table.select().where(*mine).order_by(table.c.deleted.desc(), table.c.size_bytes.desc()).limit(1)
        for row in connection.execute(query):
            command = f"`lensmount {kind} delete {name_of(row.name)} --version {row.version} --purge`"
            candidates.append((bool(row.deleted), int(row.size_bytes), f"{command} frees {row.size_bytes} of them"))
    size = _sum(image_table.c.size_bytes)
    query = sa.select(image_table.c.dataset, size).where(*_of(image_table, "dataset", tenant, owner))
    for name, nbytes in connection.execute(query.group_by(image_table.c.dataset).order_by(size.desc()).limit(1)):
        freed = f"with the pool {name_of(name)} frees {nbytes} of them"
        candidates.append((False, int(nbytes), f"DELETE /datasets/{{name}}/unlabelled {freed}"))
    query = job_table.select().where(
        job_table.c.owner == owner, of_tenant(tenant), job_table.c.state.in_(ENDED), job_table.c.file_bytes > 0
    )
    for row in connection.execute(query.order_by(job_table.c.file_bytes.desc()).limit(1)):
        freed = f"`lensmount jobs delete-files {row.id}` frees {row.file_bytes} of them"
        candidates.append((False, int(row.file_bytes), freed))
    return max(candidates)[2] if candidates else None


def _refusal(held: Held, more: int, limit: int, fix: str | None) -> str:
    parts = [
        (held.deleted, "were deleted and count until they are purged"),
        (held.unfinished, "belong to uploads that are not complete"),
    ]
    told = "".join(f"; {nbytes} of them {what}" for nbytes, what in parts if nbytes)
    larger = "ask your administrator for a larger quota"
    return (
        f"found {held.total} bytes that this token stores{told}; expected at most {limit} with {more} more "
        f"(stored_bytes). Fix: {larger if fix is None else f'{fix}, for good; or {larger}'}"
    )
