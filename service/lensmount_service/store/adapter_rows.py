"""The rows of adapters: the tables of versions and aliases, a row as a Version, and which row is asked for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.errors import AdapterError
from lensmount_adapters.trust.judge import Overrides
from lensmount_service.errors import Forbidden, NotFound, RequestInvalid, StoreDamaged, Unusable, VersionDeleted
from lensmount_service.quarantine import Held
from lensmount_service.rollout_spec import Rollout, stored_rollout
from lensmount_service.store.database import metadata
from lensmount_service.store.references import Reference
from lensmount_service.store.similar import similar_key, similar_name

version_table = sa.Table(
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
    sa.Column("owner", sa.String(64)),  # the actor who uploaded it
    sa.Column("signature", sa.String(128)),  # what the header Lensmount-Signature said
    sa.Index("ix_versions_owner", "owner"),
)
alias_table = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("alias", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("accept_confidence", sa.Double),
    sa.Column("unfamiliar_percentile", sa.Double),
    sa.Column("protected", sa.Boolean),  # only an administrator of the tenant moves it or deletes its version
    sa.Column("deleted_at", sa.Float),  # that of the version with which it was deleted
    sa.Column("rollout", sa.Text),  # JSON, see rollout_spec.py
)


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of an adapter, with what the alias says by which it was found."""

    name: str
    version: int
    digest: str
    size_bytes: int
    created_at: str
    manifest: Manifest
    thresholds: Overrides = field(default_factory=Overrides)
    owner: str | None = None
    alias_tag: str | None = None
    signature: str | None = None
    alias: str | None = None
    rollout: Rollout | None = None


_STATED = ("accept_confidence", "unfamiliar_percentile", "protected", "rollout")  # for the ETag of an alias


def needed_digests(connection: sa.Connection) -> set[str]:
    needed = sa.or_(~version_table.c.deleted, version_table.c.deleted_at.is_not(None))
    return set(connection.execute(sa.select(version_table.c.digest).where(needed)).scalars())


def rows_of(connection: sa.Connection, name: str) -> list[Any]:
    return list(
        connection.execute(version_table.select().where(version_table.c.name == name).order_by(version_table.c.version))
    )


def existing(connection: sa.Connection, name: str, *, or_kept: bool = False) -> list[Any]:
    """All rows of an adapter, of which one is live, or can be undeleted if `or_kept`."""
    rows = rows_of(connection, name)
    kept = any(row.deleted_at is not None for row in rows)
    if all(row.deleted for row in rows) and not (or_kept and kept):
        meant = similar_key(connection, version_table.c.name, ~version_table.c.deleted, name)
        fix = "Fix: see GET /adapters for the names"
        if kept:
            way_back = f"POST /adapters/{name}/undelete takes it back"
            fix = f"Fix: it was deleted; {way_back}"
        raise NotFound(f"found no adapter named {name!r}.{meant} {fix}", code="adapter_not_found")
    return rows


def by_number(name: str, rows: list[Any], number: int, *, or_kept: bool = False) -> Any:
    for row in rows:
        if row.version == number:
            if row.deleted and not (or_kept and row.deleted_at is not None):
                raise _deleted(f"version {number} of {name!r}", row)
            return row
    newest = max((row.version for row in rows if not row.deleted), default=None)
    meant = "" if newest is None else f" Did you mean {newest}, the latest?"
    raise NotFound(f"found no version {number} of {name!r}.{meant}", code="version_not_found")


def _deleted(what: str, row: Any) -> VersionDeleted:
    way_back = f", or POST /adapters/{row.name}/versions/{row.version}/undelete" if row.deleted_at is not None else ""
    return VersionDeleted(f"{what} was deleted. Fix: use another version{way_back}")


def by_digest(reference: Reference, rows: list[Any]) -> Any:
    matching = [row for row in rows if row.digest == reference.digest]
    live = [row for row in matching if not row.deleted]
    if live:
        return live[-1]
    if matching:
        raise _deleted(f"the version of {reference.name!r} with this digest", matching[-1])
    raise NotFound(f"found no version of {reference.name!r} with this digest", code="version_not_found")


def alias_row(connection: sa.Connection, name: str, alias: str) -> Any:
    mine = sa.and_(alias_table.c.name == name, alias_table.c.deleted_at.is_(None))
    row = connection.execute(alias_table.select().where(mine, alias_table.c.alias == alias)).one_or_none()
    if row is None:
        meant = similar_name(connection, alias_table.c.alias, mine, alias)
        raise NotFound(f"found no alias {alias!r} of {name!r}.{meant}", code="alias_not_found")
    return row


def require_unprotected(connection: sa.Connection, name: str, concerned: Callable[[Any], bool]) -> None:
    """Raises Forbidden (`alias_protected`) if an alias whose row is concerned is protected."""
    mine = alias_table.c.name == name, alias_table.c.protected.is_(True), alias_table.c.deleted_at.is_(None)
    rows = connection.execute(alias_table.select().where(*mine)).all()
    alias = next((row.alias for row in rows if concerned(row)), None)
    if alias is not None:
        raise Forbidden(
            f"found the alias {alias!r} of {name!r}, which is protected, so only an administrator of its tenant moves "
            "it or deletes its version. Fix: use a token with the scope admin, or another alias",
            code="alias_protected",
        )


def thresholds_of(alias: Any) -> Overrides:
    return Overrides(alias.accept_confidence, alias.unfamiliar_percentile)


def versions_of(alias: Any) -> frozenset[int]:
    """The versions that the row of an alias needs: its own, and those of its rollout."""
    rollout = stored_rollout(alias.rollout)
    return frozenset({alias.version}) if rollout is None else rollout.versions | {alias.version}


def version_of(row: Any) -> Version:
    same = (row.name, row.version, row.digest, row.size_bytes, row.created_at, _parsed(row.manifest))
    return Version(*same, owner=row.owner, signature=row.signature)


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Manifest:
    """Cached, because a manifest is immutable and every prediction needs one."""
    try:
        return Manifest.parse(text)
    except AdapterError as error:  # it was valid when it was written
        raise StoreDamaged(
            f"the database is damaged: found a manifest that cannot be read ({error}). "
            "Fix: stop the server and run `lensmount store recover`, or restore a backup"
        ) from error


def named_by(alias: Any, version: Version) -> Version:
    """The version that an alias points at, with what the row of the alias says."""
    thresholds = thresholds_of(alias)
    says = f"{thresholds} {bool(alias.protected)}{alias.rollout or ''}"
    tag = f"{version.digest};{hashlib.sha256(says.encode()).hexdigest()[:16]}"
    rollout = stored_rollout(alias.rollout)
    return replace(version, thresholds=thresholds, alias_tag=tag, alias=alias.alias, rollout=rollout)


def alias_tags(connection: sa.Connection, name: str, alias: str) -> tuple[str | None, str | None]:
    """The ETag of an alias and the digest of its version; None twice if there is no such alias."""
    same = sa.and_(version_table.c.name == alias_table.c.name, version_table.c.version == alias_table.c.version)
    mine = sa.and_(alias_table.c.name == name, alias_table.c.alias == alias, alias_table.c.deleted_at.is_(None))
    query = sa.select(version_table, *alias_table.c["alias", *_STATED])
    row = connection.execute(query.join(alias_table, same).where(mine)).one_or_none()
    return (None, None) if row is None else (named_by(row, version_of(row)).alias_tag, row.digest)


def check_measured(version: Version, thresholds: Overrides) -> None:
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


def signed_again(connection: sa.Connection, row: Any, signature: str | None) -> Version:
    """The same bytes with another signature: it replaces the one before, whose key may be trusted no longer."""
    version = version_of(row)
    if signature is None or signature == version.signature:
        return version
    mine = version_table.c.name == version.name, version_table.c.version == version.version
    connection.execute(version_table.update().where(*mine).values(signature=signature))
    return replace(version, signature=signature)


def not_computed(title: str, version: Version, held: Held, own: bool) -> Unusable:
    """What is told of a version that is held, with what helps its owner or a reader."""
    fix = "ask its owner for another version"
    if held.is_damaged:
        fix = "upload the same file again" if own else fix
        return Unusable(f"{title} cannot be used: {held.why}. Fix: {fix}", code="adapter_corrupt")
    if own:
        release = f"lensmount adapters release {version.name}@{version.version}"
        fix = f"upload a version that works, or lift it with `{release}`"
    why = f"{held.why}, several times in a row"
    return Unusable(f"{title} is quarantined: {why}. Fix: {fix}", code="adapter_quarantined")
