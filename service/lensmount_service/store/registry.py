"""The registered adapters: names, versions and aliases, each pointing at a digest. Changes are durable on return.

Version numbers are never reused. A name without a version means its latest version that is not deleted.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import NotFound, RequestInvalid, VersionDeleted
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.memo import StampedCache
from lensmount_service.store.references import Reference
from lensmount_service.store.similar import similar_name

_versions = sa.Table(
    "versions",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", sa.Float),  # seconds since the epoch, while it can be undeleted
    sa.Column("manifest", sa.Text, nullable=False),
)
_aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("alias", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("accept_confidence", sa.Double),
    sa.Column("unfamiliar_percentile", sa.Double),
    sa.Column("deleted_at", sa.Float),  # that of the version with which it was deleted
)


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of an adapter, with the thresholds of the alias by which it was found."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: str
    manifest: Manifest
    thresholds: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True, slots=True)
class Entry:
    """One adapter name: its versions, oldest first, its aliases, and the aliases that have thresholds."""

    versions: tuple[Version, ...]
    aliases: dict[str, int]
    thresholds: dict[str, Overrides]

    @property
    def latest(self) -> Version:
        return self.versions[-1]


class Registry:
    """`registry.publish("malaria", digest, size, manifest)`, `registry.resolve(Reference.parse("malaria:prod"))`."""

    def __init__(self, database: Database) -> None:
        """Raises Unavailable if the database cannot be reached or a newer Lensmount created it."""
        self._database = database
        self._cached: StampedCache[Reference, Version] = StampedCache(database.stamp)
        self._stamps_at_once = database.stamps_at_once
        database.create()

    def publish(self, name: str, digest: str, size_bytes: int, manifest: Manifest) -> tuple[Version, bool]:
        """Returns the new version and True, or the latest version and False if that already has these bytes."""
        with self._database.write() as connection:
            return self.add(connection, name, digest, size_bytes, manifest)

    def add(
        self, connection: sa.Connection, name: str, digest: str, size_bytes: int, manifest: Manifest
    ) -> tuple[Version, bool]:
        """`publish` within the caller's transaction."""
        rows = _rows(connection, name)
        live = [row for row in rows if not row.deleted]
        if live and live[-1].digest == digest:
            return _version(live[-1]), False
        version = Version(name, (rows[-1].version if rows else 0) + 1, digest, size_bytes, _now(), manifest)
        connection.execute(
            _versions.insert().values(
                name=name,
                version=version.version,
                digest=digest,
                size_bytes=size_bytes,
                created_at=version.created_at,
                deleted=False,
                manifest=manifest.dump(),
            )
        )
        return version, True

    def resolve(self, reference: Reference) -> Version:
        """Raises NotFound or VersionDeleted."""
        return self._cached.get_or_load(reference, self._resolve)

    def resolve_cached(self, reference: Reference) -> Version | None:
        """The result of `resolve` if it is cached and nothing was committed since, otherwise None. Never blocks."""
        return self._cached.get(reference) if self._stamps_at_once else None

    def _resolve(self, reference: Reference) -> Version:
        with self._database.read() as connection:
            return self.find(connection, reference)

    def find(self, connection: sa.Connection, reference: Reference) -> Version:
        """`resolve` within the caller's transaction."""
        rows = _existing(connection, reference.name)
        if reference.alias is not None:
            row = _alias(connection, reference.name, reference.alias)
            return replace(_version(_by_number(reference.name, rows, row.version)), thresholds=_thresholds(row))
        if reference.digest is not None:
            return _version(_by_digest(reference, rows))
        elif reference.version is not None:
            number = reference.version
        else:
            return _version([row for row in rows if not row.deleted][-1])
        return _version(_by_number(reference.name, rows, number))

    def entries(self) -> list[Entry]:
        """All adapters with a version that is not deleted, by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                _versions.select().where(~_versions.c.deleted).order_by(_versions.c.name, _versions.c.version)
            ).all()
            aliases = connection.execute(_aliases.select()).all()
        by_name: dict[str, list[Version]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(_version(row))
        return [_entry(versions, [a for a in aliases if a.name == name]) for name, versions in by_name.items()]

    def entry(self, name: str) -> Entry:
        """Raises NotFound."""
        with self._database.read() as connection:
            live = [row for row in _existing(connection, name) if not row.deleted]
            aliases = connection.execute(_aliases.select().where(_aliases.c.name == name)).all()
        return _entry([_version(row) for row in live], aliases)

    def was_ever_published(self, name: str) -> bool:
        with self._database.read() as connection:
            return bool(_rows(connection, name))

    def delete(self, name: str, number: int | None = None) -> list[str]:
        """Delete a version, or all versions with their aliases. Returns the digests that are no longer used.

        Raises NotFound or VersionDeleted.
        """
        with self._database.write() as connection:
            rows = _existing(connection, name)
            gone = [_by_number(name, rows, number)] if number is not None else [r for r in rows if not r.deleted]
            numbers = [row.version for row in gone]
            mine = _versions.c.name == name
            connection.execute(_versions.update().where(mine, _versions.c.version.in_(numbers)).values(deleted=True))
            connection.execute(_aliases.delete().where(_aliases.c.name == name, _aliases.c.version.in_(numbers)))
            in_use = _digests(connection)
            return [row.digest for row in gone if row.digest not in in_use]

    def set_alias(self, name: str, alias: str, number: int, thresholds: Overrides | None = None) -> Version:
        """Point an alias at a version, atomically. It keeps its thresholds unless new ones are given.

        Raises NotFound, VersionDeleted, or RequestInvalid for thresholds of what the version does not measure.
        """
        with self._database.write() as connection:
            return self.point(connection, name, alias, number, thresholds)

    def point(
        self, connection: sa.Connection, name: str, alias: str, number: int, thresholds: Overrides | None = None
    ) -> Version:
        """`set_alias` within the caller's transaction."""
        version = _version(_by_number(name, _existing(connection, name), number))
        mine = sa.and_(_aliases.c.name == name, _aliases.c.alias == alias)
        if thresholds is None:
            before = connection.execute(_aliases.select().where(mine)).one_or_none()
            thresholds = Overrides() if before is None else _thresholds(before)
        else:
            _check_measured(version, thresholds)
        connection.execute(_aliases.delete().where(mine))
        connection.execute(_aliases.insert().values(name=name, alias=alias, version=number, **asdict(thresholds)))
        return replace(version, thresholds=thresholds)

    def delete_alias(self, name: str, alias: str) -> None:
        """Raises NotFound."""
        with self._database.write() as connection:
            _existing(connection, name)
            _alias(connection, name, alias)
            connection.execute(_aliases.delete().where(_aliases.c.name == name, _aliases.c.alias == alias))

    def digests(self) -> set[str]:
        """The digests that some live version points at."""
        with self._database.read() as connection:
            return _digests(connection)

    @contextmanager
    def alone(self) -> Iterator[set[str]]:
        """`digests`, during a transaction in which nothing can be published."""
        with self._database.write() as connection:
            yield _digests(connection)


def _digests(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.select(_versions.c.digest).where(~_versions.c.deleted)).scalars())


def _rows(connection: sa.Connection, name: str) -> list[Any]:
    return list(connection.execute(_versions.select().where(_versions.c.name == name).order_by(_versions.c.version)))


def _existing(connection: sa.Connection, name: str) -> list[Any]:
    rows = _rows(connection, name)
    if all(row.deleted for row in rows):
        meant = similar_name(connection, _versions.c.name, ~_versions.c.deleted, name)
        raise NotFound(
            f"found no adapter named {name!r}.{meant} Fix: see GET /adapters for the names", code="adapter_not_found"
        )
    return rows


def _by_number(name: str, rows: list[Any], number: int) -> Any:
    for row in rows:
        if row.version == number:
            if row.deleted:
                raise VersionDeleted(f"version {number} of {name!r} was deleted. Fix: use another version")
            return row
    newest = max(row.version for row in rows if not row.deleted)
    raise NotFound(
        f"found no version {number} of {name!r}. Did you mean {newest}, the latest?", code="version_not_found"
    )


def _by_digest(reference: Reference, rows: list[Any]) -> Any:
    matching = [row for row in rows if row.digest == reference.digest]
    live = [row for row in matching if not row.deleted]
    if live:
        return live[-1]
    if matching:
        raise VersionDeleted(
            f"the version of {reference.name!r} with this digest was deleted. Fix: use another version"
        )
    raise NotFound(f"found no version of {reference.name!r} with this digest", code="version_not_found")


def _alias(connection: sa.Connection, name: str, alias: str) -> Any:
    mine = _aliases.c.name == name
    row = connection.execute(_aliases.select().where(mine, _aliases.c.alias == alias)).one_or_none()
    if row is None:
        meant = similar_name(connection, _aliases.c.alias, mine, alias)
        raise NotFound(f"found no alias {alias!r} of {name!r}.{meant}", code="alias_not_found")
    return row


def _thresholds(alias: Any) -> Overrides:
    return Overrides(alias.accept_confidence, alias.unfamiliar_percentile)


def _check_measured(version: Version, thresholds: Overrides) -> None:
    """Raises RequestInvalid for a threshold that would decide nothing."""
    trust = version.manifest.trust
    for name, value, is_measured in (
        ("accept_confidence", thresholds.accept_confidence, trust is not None),
        (
            "unfamiliar_percentile",
            thresholds.unfamiliar_percentile,
            trust is not None and trust.familiarity is not None,
        ),
    ):
        if value is not None and not is_measured:
            raise RequestInvalid(
                f"trust.{name}: found {value:g} for {version.name}@{version.version}, which was trained without "
                f"{'calibration' if trust is None else 'statistics of its images'}, expected a version that has them. "
                f"Fix: train it again with the option calibration, or leave {name} out"
            )


def _entry(versions: Sequence[Version], aliases: Sequence[Any]) -> Entry:
    thresholds = {row.alias: _thresholds(row) for row in aliases}
    return Entry(
        tuple(versions),
        {row.alias: row.version for row in aliases},
        {alias: found for alias, found in thresholds.items() if found != Overrides()},
    )


def _version(row: Any) -> Version:
    return Version(row.name, row.version, row.digest, row.size_bytes, row.created_at, _parsed(row.manifest))


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Manifest:
    """Cached, because a manifest is immutable and every prediction needs one."""
    return Manifest.parse(text)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
