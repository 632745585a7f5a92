"""What tenants share with all others: an adapter or a dataset under a public name, which others read as public/NAME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from lensmount_service.errors import NameTaken, NotFound
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.keys import PUBLIC
from lensmount_service.store.memo import StampedCache
from lensmount_service.store.references import require_name
from lensmount_service.store.similar import similar_name

Kind = Literal["adapter", "dataset"]

SEE: dict[Kind, str] = {
    "adapter": "Fix: see GET /adapters with public=true for the names",
    "dataset": "Fix: see GET /datasets with public=true for the names",
}
KINDS: tuple[Kind, ...] = get_args(Kind)

_shared = sa.Table(
    "shared",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),  # without public/
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("actor", sa.String(64)),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),  # the name is free again; the row tells that it was shared once
)
_s = _shared.c


@dataclass(frozen=True, slots=True)
class Share:
    """`public/NAME` stands for the adapter or dataset with this key. `since` is seconds since the epoch."""

    kind: Kind
    name: str
    key: str
    since: float

    @property
    def public_name(self) -> str:
        return f"{PUBLIC}/{self.name}"


class Shares:
    """`shares.add("adapter", "malaria", key, actor)`, `shares.key("adapter", "public/malaria")`; any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cached: StampedCache[tuple[Kind, str], str] = StampedCache(database.stamp)
        database.create()

    def key(self, kind: Kind, public_name: str) -> str:
        """Raises NotFound (`adapter_not_found`, `dataset_not_found`)."""
        return self._cached.get_or_load((kind, public_name), self._key)

    def key_cached(self, kind: Kind, public_name: str) -> str | None:
        """`key` if it is in memory and nothing was committed since, otherwise None. Never blocks."""
        return self._cached.get((kind, public_name)) if self._database.stamps_at_once else None

    def list(self, kind: Kind, key: str | None = None) -> list[Share]:
        """All that is shared of a kind, by name, or the names under which one key is shared."""
        query = sa.select(_shared).where(_s.kind == kind, _s.ended.is_(None)).order_by(_s.name)
        with self._database.read() as connection:
            rows = connection.execute(query if key is None else query.where(_s.key == key)).all()
        return [_share(row) for row in rows]

    def add(self, kind: Kind, name: str, key: str, actor: str | None) -> Share:
        """Share a key under a public name; a second call changes nothing. Raises NameTaken (`public_name_taken`)."""
        name = require_name(name.removeprefix(f"{PUBLIC}/"), f"public {kind} name")
        mine = sa.and_(_s.kind == kind, _s.name == name)
        with self._database.write() as connection:
            row = connection.execute(sa.select(_shared).where(mine)).one_or_none()
            if row is not None and row.ended is None:
                if row.key == key:
                    return _share(row)
                raise NameTaken(
                    f"found the public name {name!r} in use by another {kind}, expected one that is free. "
                    "Fix: share it under another name"
                )
            connection.execute(_shared.delete().where(mine))
            since = self._database.now(connection)
            connection.execute(_shared.insert().values(kind=kind, name=name, key=key, actor=actor, since=since))
        return Share(kind, name, key, since)

    def end(self, kind: Kind, key: str) -> int:
        """Share a key no longer, under any name. Returns how many names it had."""
        mine = _s.kind == kind, _s.key == key, _s.ended.is_(None)
        with self._database.read() as connection:  # most keys are not shared, and need no turn as a writer
            if connection.execute(sa.select(_s.name).where(*mine)).first() is None:
                return 0
        with self._database.write() as connection:
            ended = _shared.update().where(*mine).values(ended=self._database.now(connection))
            return int(connection.execute(ended).rowcount)

    def was_ever(self, kind: Kind, key: str) -> bool:
        """Whether a key is shared or was."""
        with self._database.read() as connection:
            return connection.execute(sa.select(_s.name).where(_s.kind == kind, _s.key == key)).first() is not None

    def _key(self, asked: tuple[Kind, str]) -> str:
        kind, public_name = asked
        name = public_name.removeprefix(f"{PUBLIC}/")
        live = sa.and_(_s.kind == kind, _s.ended.is_(None))
        with self._database.read() as connection:
            row = connection.execute(sa.select(_s.key).where(live, _s.name == name)).one_or_none()
            meant = "" if row else similar_name(connection, sa.literal(f"{PUBLIC}/").concat(_s.name), live, public_name)
        if row is None:
            raise NotFound(
                f"found no {kind} named {public_name!r}.{meant} {SEE[kind]}",
                code=f"{kind}_not_found",
            )
        return str(row.key)


def _share(row: Any) -> Share:
    return Share(row.kind, row.name, row.key, row.since)
