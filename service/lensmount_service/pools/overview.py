"""What the pools of a tenant hold: how many images, how many with a label, and who has how many reserved now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from lensmount_service.pools.rows import image_table, label_table, lease_table
from lensmount_service.store.keys import name_of, within

MOST_HOLDERS = 100  # people that are named for one pool, those with most images


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """One pool. `held` has the images that each person has reserved and not labelled yet."""

    name: str
    images: int
    labelled: int
    size_bytes: int
    held: Mapping[str, int]


def summaries(connection: sa.Connection, tenant: str, now: float) -> list[PoolSummary]:
    """All pools of a tenant by name. `now` is the database's clock, in seconds since the epoch."""
    images, labels, leases = image_table.c, label_table.c, lease_table.c
    counted = (
        sa.select(images.dataset, sa.func.count(), sa.func.sum(images.size_bytes))
        .where(within(images.dataset, tenant))
        .group_by(images.dataset)
        .order_by(images.dataset)
    )
    said = (
        sa.select(labels.dataset, sa.func.count(sa.distinct(labels.digest)))
        .where(within(labels.dataset, tenant))
        .group_by(labels.dataset)
    )
    reserved = (
        sa.select(leases.dataset, leases.who, sa.func.count().label("images"))
        .where(within(leases.dataset, tenant), leases.until > now)
        .group_by(leases.dataset, leases.who)
        .order_by(sa.desc("images"), leases.who)
    )
    labelled = {row[0]: row[1] for row in connection.execute(said)}
    held: dict[str, dict[str, int]] = {}
    for name, who, count in connection.execute(reserved):
        if len(own := held.setdefault(name, {})) < MOST_HOLDERS:
            own[who] = count
    return [
        PoolSummary(name_of(key), count, labelled.get(key, 0), int(size), held.get(key, {}))
        for key, count, size in connection.execute(counted)
    ]
