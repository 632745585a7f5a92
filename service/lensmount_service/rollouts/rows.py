"""The tables of what rollouts have shown: one row of counts for each, and one row for each image with a label."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from lensmount_service.rollout_spec import Side
from lensmount_service.rollouts.tally import Counts
from lensmount_service.store.database import Database, metadata

log = structlog.get_logger(__name__)

MOST_PAIRS = 10_000  # images with a label of one rollout; later ones are not kept
KEPT_S = 86_400.0  # how long the rows of a rollout that ended stay

count_table = sa.Table(
    "rollout_counts",
    metadata,
    sa.Column("rollout", sa.String(32), primary_key=True),
    sa.Column("counts", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
pair_table = sa.Table(
    "rollout_pairs",
    metadata,
    sa.Column("rollout", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(71), primary_key=True),  # of the image
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("side", sa.String(8), nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("classes", sa.Integer, nullable=False),
    *(
        sa.Column(f"{side}_{what}", kind, nullable=False)
        for side in ("stable", "candidate")
        for what, kind in (("right", sa.Boolean), ("score", sa.Double), ("top", sa.Double), ("brier", sa.Double))
    ),
)


@dataclass(frozen=True, slots=True)
class Graded:
    """The answer of one version to an image whose label is known.

    `score` is that of the right label, `top` the highest, `brier` half the sum of squared differences from the right
    answer, in 0 (best) to 1 (Brier, Monthly Weather Review 78:1, 1950).
    """

    right: bool
    score: float
    top: float
    brier: float


@dataclass(frozen=True, slots=True)
class Pair:
    """An image with a label, and both versions' answers to it.

    `side` is the version that the person who gave the label had seen, and `share` the part of the requests that the
    canary answered then.
    """

    digest: str
    side: Side
    share: float
    classes: int
    stable: Graded
    candidate: Graded


class Rows:
    """`rows.add({rollout: counts})`, `rows.counts(rollout)`, `rows.add_pair(rollout, pair)`; safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, taken: Mapping[str, Counts]) -> None:
        """Add counts to those that are stored, in one transaction. Several servers do so with their own."""
        with self._database.write() as connection:
            at = self._database.now(connection)
            for rollout, counts in taken.items():
                row = connection.execute(_stored(rollout)).one_or_none()
                total = Counts.total([*_read(row), counts])
                values = {"counts": json.dumps(total.to_json(), separators=(",", ":")), "updated_at": at}
                if row is None:
                    connection.execute(count_table.insert().values(rollout=rollout, **values))
                else:
                    connection.execute(count_table.update().where(count_table.c.rollout == rollout).values(**values))

    def counts(self, rollout: str) -> Counts:
        with self._database.read() as connection:
            return Counts.total(_read(connection.execute(_stored(rollout)).one_or_none()))

    def add_pair(self, rollout: str, pair: Pair) -> bool:
        """Keep a pair in place of an earlier one of the same image. False if there are too many already."""
        values = {name: value for name, value in asdict(pair).items() if not isinstance(value, dict)}
        for side, graded in (("stable", pair.stable), ("candidate", pair.candidate)):
            values |= {f"{side}_{name}": value for name, value in asdict(graded).items()}
        mine = pair_table.c.rollout == rollout
        with self._database.write() as connection:
            connection.execute(pair_table.delete().where(mine, pair_table.c.digest == pair.digest))
            count = connection.execute(sa.select(sa.func.count()).select_from(pair_table).where(mine)).scalar_one()
            if count >= MOST_PAIRS:
                return False
            at = self._database.now(connection)
            connection.execute(pair_table.insert().values(rollout=rollout, at=at, **values))
        return True

    def stamp_of_pairs(self, rollout: str) -> tuple[int, float | None]:
        """Another value as soon as a pair was added."""
        of = pair_table.c.rollout == rollout
        with self._database.read() as connection:
            query = sa.select(sa.func.count(), sa.func.max(pair_table.c.at)).where(of)
            count, newest = connection.execute(query).one()
        return count, newest

    def pairs(self, rollout: str) -> list[Pair]:
        """The images with a label, the oldest first."""
        query = pair_table.select().where(pair_table.c.rollout == rollout).order_by(pair_table.c.at)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_pair(row) for row in rows]

    def forget(self, running: Collection[str]) -> None:
        """Delete what is known of rollouts that ended more than KEPT_S ago."""
        with self._database.read() as connection:
            before = self._database.now(connection) - KEPT_S
            old = set(connection.execute(sa.select(count_table.c.rollout).where(count_table.c.updated_at < before)))
            newest = sa.func.max(pair_table.c.at)
            grouped = sa.select(pair_table.c.rollout).group_by(pair_table.c.rollout).having(newest < before)
            old |= set(connection.execute(grouped))
        gone = {row.rollout for row in old} - set(running)
        if not gone:
            return
        with self._database.write() as connection:
            for table in (count_table, pair_table):
                connection.execute(table.delete().where(table.c.rollout.in_(gone)))


def _stored(rollout: str) -> sa.Select[Any]:
    return sa.select(count_table).where(count_table.c.rollout == rollout)


def _read(row: Any) -> Iterator[Counts]:
    """The counts of a row. Damaged ones count as none, because what they say is only evidence."""
    if row is None:
        return
    try:
        yield Counts.of_json(json.loads(row.counts))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("the counts of a rollout cannot be read, and start again", rollout=row.rollout, reason=repr(error))


def _pair(row: Any) -> Pair:
    graded = [
        Graded(*(getattr(row, f"{side}_{what}") for what in ("right", "score", "top", "brier")))
        for side in ("stable", "candidate")
    ]
    return Pair(row.digest, row.side, row.share, row.classes, *graded)
