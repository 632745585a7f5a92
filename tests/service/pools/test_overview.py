"""The overview of a tenant's pools: counts of images and labels, and who holds images now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lensmount_service.pools.pools import Pools
from lensmount_service.store.keys import key_of

if TYPE_CHECKING:
    from lensmount_service.store.database import Database

Images = Callable[..., dict[str, bytes]]


def test_each_pool_of_the_tenant_is_counted_and_ended_leases_are_not(
    database: Database, tmp_path: Path, images: Images
) -> None:
    pools = Pools(database, tmp_path / "pools")
    files = list(images(a=5).values())
    cells, other = key_of("lab1", "cells"), key_of("lab2", "cells")
    digests = [pools.add(cells, data, "reader1")[0].digest for data in files]
    pools.add(other, files[0], "reader9")
    pools.lease(cells, digests[:3], "reader1", 600)
    pools.lease(cells, digests[3:], "reader2", -1)  # ended a second ago
    pools.label(cells, {digests[0]: "a", digests[4]: "b"}, "reader1")
    pools.label(cells, {digests[0]: "b"}, "reader2")  # a second opinion on one image

    (pool,) = pools.summaries("lab1")

    assert (pool.name, pool.images, pool.labelled) == ("cells", 5, 2)
    assert pool.size_bytes == sum(map(len, files))
    assert pool.held == {"reader1": 2}  # the image that it labelled is not held any more
    assert [(each.name, each.images, each.held) for each in pools.summaries("lab2")] == [("cells", 1, {})]
    assert pools.summaries("lab3") == []
