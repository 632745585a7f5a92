"""The aliases of adapters: the version that each points at, its thresholds, its protection, its rollout with events.

Every change of a rollout is an event in the same transaction. An alias keeps its newest 200.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import sqlalchemy as sa
import structlog

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import NotFound, RequestInvalid
from lensmount_service.rollout_spec import Rollout, salt_of, stored_rollout
from lensmount_service.store.adapter_rows import (
    Version,
    alias_row,
    alias_table,
    alias_tags,
    by_number,
    check_measured,
    existing,
    named_by,
    require_unprotected,
    thresholds_of,
    version_of,
)
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.keys import within
from lensmount_service.store.precondition import ANY, Precondition

log = structlog.get_logger(__name__)

MOST_EVENTS = 200  # of one alias; the oldest go

What = Literal["started", "changed", "promoted", "rolled_back", "ended"]
End = Literal["promoted", "rolled_back"]

event_table = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("alias", sa.String(64), nullable=False),
    sa.Column("rollout", sa.String(32), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", sa.String(64)),
    sa.Column("what", sa.String(16), nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Index("ix_rollout_events_alias", "name", "alias"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What an alias shall hold. None keeps thresholds and protection; without a rollout, one that runs ends."""

    version: int
    thresholds: Overrides | None = None
    rollout: Rollout | None = None
    protected: bool | None = None


@dataclass(frozen=True, slots=True)
class By:
    """Who changes an alias, and what that rests on: JSON without NaN. Only an administrator changes a protected one."""

    actor: str | None = None
    is_admin: bool = True
    evidence: Mapping[str, Any] = field(default_factory=dict)


SERVER = By()


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """What became of a rollout, and what that rested on. `at` is in seconds since the epoch."""

    rollout: str
    at: float
    actor: str | None
    what: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Running:
    """A rollout that has not ended, under the key of its adapter."""

    name: str
    alias: str
    rollout: Rollout


class Aliases:
    """`registry.set_alias("malaria", "prod", 2)`, `registry.end_rollout("malaria", "prod", "promoted")`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_alias(
        self,
        name: str,
        alias: str,
        number: int,
        thresholds: Overrides | None = None,
        *,
        rollout: Rollout | None = None,
        protected: bool | None = None,
        by: By = SERVER,
        expected: Precondition = ANY,
    ) -> Version:
        """Point an alias at a version, atomically. It keeps its thresholds unless new ones are given.

        `rollout` begins, or changes one with the same versions, which keeps its `id`; the store sets its salt and its
        start. Without it, a rollout that runs ends. Only an administrator moves a protected alias, and decides that it
        is `protected` (None: as before). Raises NotFound, VersionDeleted, PreconditionFailed, Forbidden
        (`alias_protected`), or RequestInvalid (also `rollout_invalid`) for thresholds of what the version does not
        measure and for versions that cannot be compared.
        """
        with self._database.write() as connection:
            return self.point(connection, name, alias, Target(number, thresholds, rollout, protected), by, expected)

    def point(
        self,
        connection: sa.Connection,
        name: str,
        alias: str,
        target: Target,
        by: By = SERVER,
        expected: Precondition = ANY,
    ) -> Version:
        """`set_alias` within the caller's transaction."""
        tag, digest = alias_tags(connection, name, alias)
        if not by.is_admin:
            require_unprotected(connection, name, lambda row: bool(row.alias == alias))
        rows = existing(connection, name)
        version = version_of(by_number(name, rows, target.version))
        mine = sa.and_(alias_table.c.name == name, alias_table.c.alias == alias)
        before = connection.execute(alias_table.select().where(mine, alias_table.c.deleted_at.is_(None))).one_or_none()
        running = None if before is None else stored_rollout(before.rollout)
        rollout = None if target.rollout is None else self._ready(connection, alias, target, running, rows)
        thresholds = target.thresholds
        if thresholds is None:
            thresholds = Overrides() if before is None else thresholds_of(before)
        else:
            check_measured(version, thresholds)
        keeps = target.protected is None and before is not None
        values = {
            "name": name,
            "alias": alias,
            "version": target.version,
            "protected": before.protected if keeps and before is not None else target.protected,
            "rollout": None if rollout is None else rollout.dump(),
            **asdict(thresholds),
        }
        connection.execute(alias_table.delete().where(mine))
        row = connection.execute(alias_table.insert().values(**values).returning(alias_table)).one()
        pointed = named_by(row, version)
        expected.require(tag, new=pointed.alias_tag, also=digest)
        self._note_change(connection, row, running, by)
        return pointed

    def delete_alias(self, name: str, alias: str, *, by: By = SERVER, expected: Precondition = ANY) -> None:
        """Its rollout ends with it, and the events are forgotten. Raises NotFound, PreconditionFailed, or Forbidden
        (`alias_protected`).
        """
        with self._database.write() as connection:
            existing(connection, name)
            alias_row(connection, name, alias)
            tag, digest = alias_tags(connection, name, alias)
            expected.require(tag, also=digest)
            if not by.is_admin:
                require_unprotected(connection, name, lambda row: bool(row.alias == alias))
            connection.execute(alias_table.delete().where(alias_table.c.name == name, alias_table.c.alias == alias))
            forget_events(connection)

    def end_rollout(
        self,
        name: str,
        alias: str,
        how: End,
        *,
        only: str | None = None,
        by: By = SERVER,
        expected: Precondition = ANY,
    ) -> Version:
        """Make the candidate or the stable version the alias's only one. Repeated, it changes nothing.

        With `only`, no rollout but that with this id ends. Raises NotFound (also `rollout_not_found`), VersionDeleted,
        PreconditionFailed or Forbidden (`alias_protected`).
        """
        with self._database.write() as connection:
            existing(connection, name)
            row = alias_row(connection, name, alias)
            rollout = stored_rollout(row.rollout)
            if rollout is not None and only in (None, rollout.id):
                target = Target(rollout.candidate if how == "promoted" else rollout.stable)
                return self.point(connection, name, alias, target, by, expected)
            events = _events(connection, name, alias)
            last = events[-1] if events and rollout is None else None
            if last is None or (last.what, last.evidence.get("version")) != (how, row.version):
                raise _not_found(name, alias, last)
            version = named_by(row, version_of(by_number(name, existing(connection, name), row.version)))
            expected.require(version.alias_tag, new=version.alias_tag, also=version.digest)
            return version

    def rollouts(self, tenant: str | None = None) -> list[Running]:
        """All rollouts that have not ended, or those of one tenant, by key and alias."""
        columns = alias_table.c["name", "alias", "rollout"]
        found = sa.select(*columns).where(alias_table.c.rollout.is_not(None), alias_table.c.deleted_at.is_(None))
        if tenant is not None:
            found = found.where(within(alias_table.c.name, tenant))
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(alias_table.c.name, alias_table.c.alias)).all()
        stored = [(row, stored_rollout(row.rollout)) for row in rows]
        return [Running(row.name, row.alias, rollout) for row, rollout in stored if rollout is not None]

    def rollout_events(self, name: str, alias: str) -> list[RolloutEvent]:
        """What became of the rollouts of an alias, oldest first; at most the newest 200 events."""
        with self._database.read() as connection:
            return _events(connection, name, alias)

    def _ready(
        self, connection: sa.Connection, alias: str, target: Target, running: Rollout | None, rows: list[Any]
    ) -> Rollout:
        """The rollout as it is stored. Raises NotFound, VersionDeleted or RequestInvalid."""
        assert target.rollout is not None
        rollout = replace(target.rollout, stable=target.version)
        name = rows[0].name
        if rollout.canary is None and rollout.shadow is None:
            raise _invalid("found neither a canary nor a shadow", "expected at least one of them", "name a version")
        stable = version_of(by_number(name, rows, rollout.stable))
        for word, trial in (("canary", rollout.canary), ("shadow", rollout.shadow)):
            if trial is None:
                continue
            tried = version_of(by_number(name, rows, trial.version))
            if trial.version == rollout.stable:
                found = f"found version {trial.version} as the {word} and as the stable version"
                raise _invalid(found, "expected two versions", f"leave the {word} out, or name another version")
            if _gives_masks(tried) != _gives_masks(stable):
                found = f"found masks from version {stable.version} or {tried.version}, and labels from the other one"
                raise _invalid(found, "expected the same from both", "upload it under a name of its own")
        if running is not None and _versions(running) == _versions(rollout):
            return replace(running, canary=rollout.canary, shadow=rollout.shadow, rules=rollout.rules)
        digest = by_number(name, rows, rollout.candidate).digest
        return replace(rollout, started_at=self._database.now(connection), salt=salt_of(name, alias, digest))

    def _note_change(self, connection: sa.Connection, row: Any, before: Rollout | None, by: By) -> None:
        """The events of an alias that had one rollout and now has another, or none."""
        after = stored_rollout(row.rollout)
        if before is not None and (after is None or after.id != before.id):
            ends: dict[int, What] = {before.stable: "rolled_back", before.candidate: "promoted"}
            what: What = ends.get(row.version, "ended") if after is None else "ended"
            self._note(connection, row, before, what, By(by.actor, evidence={"version": row.version, **by.evidence}))
        if after is not None and after != before:
            told = {
                "stable": after.stable,
                "canary": None if after.canary is None else asdict(after.canary),
                "shadow": None if after.shadow is None else asdict(after.shadow),
                "rules": asdict(after.rules),
            }
            begins: What = "started" if before is None or before.id != after.id else "changed"
            self._note(connection, row, after, begins, By(by.actor, evidence={**told, **by.evidence}))

    def _note(self, connection: sa.Connection, row: Any, rollout: Rollout, what: What, by: By) -> None:
        evidence = dict(by.evidence)
        connection.execute(
            event_table.insert().values(
                name=row.name,
                alias=row.alias,
                rollout=rollout.id,
                at=self._database.now(connection),
                actor=by.actor,
                what=what,
                evidence=json.dumps(evidence),
            )
        )
        mine = sa.and_(event_table.c.name == row.name, event_table.c.alias == row.alias)
        newest = sa.select(event_table.c.number).where(mine).order_by(event_table.c.number.desc())
        last = connection.execute(newest.offset(MOST_EVENTS - 1).limit(1)).scalar_one_or_none()
        if last is not None:
            connection.execute(event_table.delete().where(mine, event_table.c.number < last))
        log.info(
            f"rollout {what.replace('_', ' ')}",
            adapter=row.name,
            alias=row.alias,
            rollout=rollout.id,
            actor=by.actor,
            evidence=evidence,
        )


def forget_events(connection: sa.Connection) -> None:
    """Those of aliases that are gone for good."""
    same = sa.and_(alias_table.c.name == event_table.c.name, alias_table.c.alias == event_table.c.alias)
    connection.execute(event_table.delete().where(~sa.exists().where(same)))


def _events(connection: sa.Connection, name: str, alias: str) -> list[RolloutEvent]:
    mine = sa.and_(event_table.c.name == name, event_table.c.alias == alias)
    rows = connection.execute(event_table.select().where(mine).order_by(event_table.c.number)).all()
    return [RolloutEvent(row.rollout, row.at, row.actor, row.what, json.loads(row.evidence)) for row in rows]


def _versions(rollout: Rollout) -> tuple[int | None, ...]:
    trials = (rollout.canary, rollout.shadow)
    return rollout.stable, *(None if trial is None else trial.version for trial in trials)


def _gives_masks(version: Version) -> bool:
    return isinstance(version.manifest.head, SegmentationHead)


def _invalid(found: str, expected: str, fix: str) -> RequestInvalid:
    return RequestInvalid(f"{found}, {expected}. Fix: {fix}", code="rollout_invalid")


def _not_found(name: str, alias: str, last: RolloutEvent | None) -> NotFound:
    ended = "" if last is None else f" The last one was {last.what.replace('_', ' ')}."
    return NotFound(
        f"found no rollout of the alias {alias!r} of {name!r}.{ended} Fix: start one with a canary or a shadow",
        code="rollout_not_found",
    )
