"""The registered adapters: names, versions and aliases, each pointing at a digest. Changes are durable on return.

Version numbers are never reused. A name without a version means its latest version that is not deleted.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.rollout_spec import Rollout, stored_rollout
from lensmount_service.store.adapter_rows import (
    Version,
    alias_row,
    alias_table,
    by_digest,
    by_number,
    existing,
    named_by,
    needed_digests,
    require_unprotected,
    rows_of,
    signed_again,
    thresholds_of,
    version_of,
    version_table,
    versions_of,
)
from lensmount_service.store.aliases import Aliases, forget_events
from lensmount_service.store.database import Database
from lensmount_service.store.keys import Charge, free_of_charge, within
from lensmount_service.store.memo import StampedCache
from lensmount_service.store.precondition import ANY, Precondition, live_digest
from lensmount_service.store.references import Reference

__all__ = ["Deleted", "Entry", "Registry", "Version"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One adapter name: its versions, oldest first, its aliases, and those with thresholds or a rollout."""

    versions: tuple[Version, ...]
    aliases: dict[str, int]
    thresholds: dict[str, Overrides]
    protected: tuple[str, ...] = ()
    rollouts: dict[str, Rollout] = field(default_factory=dict)

    @property
    def latest(self) -> Version:
        return self.versions[-1]


@dataclass(frozen=True, slots=True)
class Deleted:
    """A version that can be undeleted, and when it was deleted, in seconds since the epoch."""

    version: Version
    at: float


class Registry(Aliases):
    """`registry.publish("malaria", digest, size, manifest)`, `registry.resolve(Reference.parse("malaria:prod"))`."""

    def __init__(self, database: Database, charge: Charge = free_of_charge) -> None:
        """Raises Unavailable if the database cannot be reached or a newer Lensmount created it."""
        super().__init__(database)
        self._charge = charge
        self._cached: StampedCache[Reference, Version] = StampedCache(database.stamp)
        self._stamps_at_once = database.stamps_at_once
        database.create()

    def publish(
        self,
        name: str,
        digest: str,
        size_bytes: int,
        manifest: Manifest,
        owner: str | None = None,
        expected: Precondition = ANY,
        signature: str | None = None,
    ) -> tuple[Version, bool]:
        """Returns the new version and True, or the latest version and False if that already has these bytes.

        Raises PreconditionFailed if `expected` is not met by the latest version.
        """
        with self._database.write() as connection:
            expected.require(live_digest(rows_of(connection, name)), digest)
            return self.add(connection, name, digest, size_bytes, manifest, owner, signature)

    def require(
        self, name: str, expected: Precondition, digest: str, size_bytes: int = 0, owner: str | None = None
    ) -> None:
        """Raises PreconditionFailed or QuotaExceeded if a version with these bytes could not be published now."""
        with self._database.read() as connection:
            latest = live_digest(rows_of(connection, name))
            expected.require(latest, digest)
            if latest != digest:
                self._charge(connection, name, owner, size_bytes)

    def add(
        self,
        connection: sa.Connection,
        name: str,
        digest: str,
        size_bytes: int,
        manifest: Manifest,
        owner: str | None = None,
        signature: str | None = None,
    ) -> tuple[Version, bool]:
        """`publish` within the caller's transaction. Raises QuotaExceeded if the owner may not store as much."""
        rows = rows_of(connection, name)
        live = [row for row in rows if not row.deleted]
        if live and live[-1].digest == digest:
            return signed_again(connection, live[-1], signature), False
        self._charge(connection, name, owner, size_bytes)
        version = Version(
            name,
            (rows[-1].version if rows else 0) + 1,
            digest,
            size_bytes,
            _now(),
            manifest,
            owner=owner,
            signature=signature,
        )
        connection.execute(
            version_table.insert().values(
                name=name,
                version=version.version,
                digest=digest,
                size_bytes=size_bytes,
                created_at=version.created_at,
                deleted=False,
                manifest=manifest.dump(),
                owner=owner,
                signature=signature,
            )
        )
        return version, True

    def resolve(self, reference: Reference) -> Version:
        """Raises NotFound, VersionDeleted, or Unavailable."""
        return self._cached.get_or_load(reference, self._resolve)

    def resolve_cached(self, reference: Reference) -> Version | None:
        """The result of `resolve` if it is cached and nothing was committed since, otherwise None. Never blocks."""
        return self._cached.get(reference) if self._stamps_at_once else None

    def _resolve(self, reference: Reference) -> Version:
        with self._database.read() as connection:
            return self.find(connection, reference)

    def find(self, connection: sa.Connection, reference: Reference) -> Version:
        """`resolve` within the caller's transaction."""
        rows = existing(connection, reference.name)
        if reference.alias is not None:
            row = alias_row(connection, reference.name, reference.alias)
            return named_by(row, version_of(by_number(reference.name, rows, row.version)))
        if reference.digest is not None:
            return version_of(by_digest(reference, rows))
        elif reference.version is not None:
            number = reference.version
        else:
            return version_of([row for row in rows if not row.deleted][-1])
        return version_of(by_number(reference.name, rows, number))

    def entries(self, tenant: str | None = None) -> list[Entry]:
        """All adapters with a version that is not deleted, by name, or those of one tenant."""
        versions = version_table.select().where(~version_table.c.deleted)
        aliases_of = alias_table.select().where(alias_table.c.deleted_at.is_(None))
        if tenant is not None:
            versions = versions.where(within(version_table.c.name, tenant))
            aliases_of = aliases_of.where(within(alias_table.c.name, tenant))
        with self._database.read() as connection:
            rows = connection.execute(versions.order_by(version_table.c.name, version_table.c.version)).all()
            aliases = connection.execute(aliases_of).all()
        by_name: dict[str, list[Version]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(version_of(row))
        return [_entry(versions, [a for a in aliases if a.name == name]) for name, versions in by_name.items()]

    def latest_digests(self) -> dict[str, str]:
        """The digest of the latest version of each adapter, by name. No manifest is read."""
        found = sa.select(version_table.c.name, version_table.c.digest).where(~version_table.c.deleted)
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(version_table.c.name, version_table.c.version))
            return dict(rows.all())  # the last one of each name stays

    def entry(self, name: str) -> Entry:
        """Raises NotFound."""
        with self._database.read() as connection:
            live = [row for row in existing(connection, name) if not row.deleted]
            mine = sa.and_(alias_table.c.name == name, alias_table.c.deleted_at.is_(None))
            aliases = connection.execute(alias_table.select().where(mine)).all()
        return _entry([version_of(row) for row in live], aliases)

    def was_ever_published(self, name: str) -> bool:
        with self._database.read() as connection:
            return bool(rows_of(connection, name))

    def delete(
        self,
        name: str,
        number: int | None = None,
        *,
        purge: bool = False,
        is_admin: bool = True,
        expected: Precondition = ANY,
    ) -> list[str]:
        """Delete a version, or all versions with their aliases. Returns the digests that no live version has.

        `undelete` takes them back until `forget_deleted`. With `purge` it cannot; versions that were deleted before
        are then purged as well. Works on a full disk, until `refill`. Raises NotFound, VersionDeleted, or Forbidden
        (`alias_protected`).
        """
        delete = partial(self._delete, name, number, purge=purge, is_admin=is_admin, expected=expected)
        return self._database.reserve.spend(delete)

    def refill(self) -> None:
        """Keep space for the next delete on a full disk."""
        self._database.reserve.fill()

    def _delete(
        self, name: str, number: int | None, *, purge: bool, is_admin: bool, expected: Precondition
    ) -> list[str]:
        with self._database.write() as connection:
            rows = existing(connection, name, or_kept=purge)
            present = [row for row in rows if not row.deleted or (purge and row.deleted_at is not None)]
            gone = present if number is None else [by_number(name, rows, number, or_kept=purge)]
            expected.require(gone[-1].digest if number is not None else live_digest(rows))
            numbers = [row.version for row in gone]
            if not is_admin:
                require_unprotected(connection, name, lambda row: not versions_of(row).isdisjoint(numbers))
            at = None if purge else self._database.now(connection)
            mine = sa.and_(version_table.c.name == name, version_table.c.version.in_(numbers))
            connection.execute(version_table.update().where(mine).values(deleted=True, deleted_at=at))
            theirs = sa.and_(alias_table.c.name == name, alias_table.c.version.in_(numbers))
            if purge:
                connection.execute(alias_table.delete().where(theirs))
                forget_events(connection)
            else:
                live = alias_table.c.deleted_at.is_(None)
                connection.execute(alias_table.update().where(theirs, live).values(deleted_at=at))
            in_use = set(
                connection.execute(sa.select(version_table.c.digest).where(~version_table.c.deleted)).scalars()
            )
            return [row.digest for row in gone if row.digest not in in_use]

    def undelete(self, name: str, number: int | None = None, expected: Precondition = ANY) -> list[int]:
        """Take back the latest delete of an adapter, or that of one version, with the aliases that went with it.

        An alias that points elsewhere by now stays there. Returns the numbers of the versions that are back, none if
        nothing was deleted. Raises NotFound, PreconditionFailed, or VersionDeleted for a version that is gone for good.
        """
        with self._database.write() as connection:
            rows = existing(connection, name, or_kept=True)
            before = live_digest(rows, number)
            if number is None:
                latest = max((row.deleted_at for row in rows if row.deleted_at is not None), default=None)
                back = [row for row in rows if latest is not None and row.deleted_at == latest]
            else:
                back = [row for row in [by_number(name, rows, number, or_kept=True)] if row.deleted]
            for row in back:
                mine = sa.and_(version_table.c.name == name, version_table.c.version == row.version)
                connection.execute(version_table.update().where(mine).values(deleted=False, deleted_at=None))
                theirs = sa.and_(alias_table.c.name == name, alias_table.c.version == row.version)
                went = alias_table.c.deleted_at == row.deleted_at
                connection.execute(alias_table.update().where(theirs, went).values(deleted_at=None))
            expected.require(before, live_digest(rows_of(connection, name), number))
            return [row.version for row in back]

    def deleted(self, tenant: str | None = None) -> list[Deleted]:
        """The versions that `undelete` takes back, by name and number, or those of one tenant."""
        kept = version_table.select().where(version_table.c.deleted_at.is_not(None))
        if tenant is not None:
            kept = kept.where(within(version_table.c.name, tenant))
        with self._database.read() as connection:
            rows = connection.execute(kept.order_by(version_table.c.name, version_table.c.version)).all()
        return [Deleted(version_of(row), row.deleted_at) for row in rows]

    def forget_deleted(self, older_than_s: float) -> int:
        """Purge what was deleted at least this many seconds ago. Returns the number of versions."""
        with self._database.read() as connection:
            before = self._database.now(connection) - older_than_s
            old = sa.select(sa.func.count()).select_from(version_table).where(version_table.c.deleted_at <= before)
            if not connection.execute(old).scalar_one():
                return 0
        with self._database.write() as connection:
            connection.execute(alias_table.delete().where(alias_table.c.deleted_at <= before))
            forget_events(connection)
            purged = connection.execute(
                version_table.update().where(version_table.c.deleted_at <= before).values(deleted_at=None)
            )
            return purged.rowcount

    def retire(self, keep: int) -> int:
        """Delete all but the newest `keep` versions of each adapter, except those of an alias or a rollout.

        Returns how many. `undelete` takes them back as usual.
        """
        retired = 0
        for entry in self.entries():
            old = {version.version for version in entry.versions[:-keep]} - set(entry.aliases.values())
            for number in sorted(old.difference(*(rollout.versions for rollout in entry.rollouts.values()))):
                self.delete(entry.latest.name, number)
                retired += 1
        return retired

    def digests(self) -> set[str]:
        """The digests that are needed: of live versions and of those that can be undeleted."""
        with self._database.read() as connection:
            return needed_digests(connection)

    @contextmanager
    def alone(self) -> Iterator[set[str]]:
        """`digests`, during a transaction in which nothing can be published."""
        with self._database.write() as connection:
            yield needed_digests(connection)


def _entry(versions: Sequence[Version], aliases: Sequence[Any]) -> Entry:
    thresholds = {row.alias: thresholds_of(row) for row in aliases}
    return Entry(
        tuple(versions),
        {row.alias: row.version for row in aliases},
        {alias: found for alias, found in thresholds.items() if found != Overrides()},
        tuple(sorted(row.alias for row in aliases if row.protected)),
        {row.alias: found for row in aliases if (found := stored_rollout(row.rollout)) is not None},
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
