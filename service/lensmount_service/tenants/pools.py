"""The pools of one tenant: images that wait for labels. Pools are not shared, even if their dataset is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lensmount_service.pools.pools import Answered, Pools
from lensmount_service.pools.rows import Decided, PoolImage, PoolLabel
from lensmount_service.pools.versions import publish_pool
from lensmount_service.store.datasets import Dataset
from lensmount_service.tenants.datasets import TenantDatasets, named
from lensmount_service.tenants.space import Space


@dataclass(frozen=True, slots=True)
class TenantPools:
    """`pools.add("cells", data, "reader1")`: the methods of Pools for one tenant; safe from any thread.

    Every method raises what that of Pools raises, and Forbidden (`public_read_only`) for public/NAME.
    """

    pools: Pools
    space: Space

    @property
    def _paid(self) -> Pools:
        return self.pools.paid_by(self.space.identity.actor)

    def key(self, name: str) -> str:
        """The key of a pool, for what is computed in the background."""
        with self.space.own(name) as key:
            return key

    def add(self, name: str, data: bytes, who: str, group: str | None = None) -> tuple[PoolImage, bool]:
        with self.space.own(name) as key:
            return self._paid.add(key, data, who, group)

    def correct(self, name: str, data: bytes, label: str, who: str, answered: Answered) -> PoolImage:
        with self.space.own(name) as key:
            return self._paid.correct(key, data, label, who, answered)

    def images(self, name: str) -> list[PoolImage]:
        with self.space.own(name) as key:
            return self.pools.images(key)

    def read(self, name: str, digest: str) -> bytes:
        with self.space.own(name) as key:
            return self.pools.read(key, digest)

    def free(self, name: str, who: str) -> tuple[list[str], list[str], list[str]]:
        with self.space.own(name) as key:
            return self.pools.free(key, who)

    def lease(self, name: str, wanted: Sequence[str], who: str, seconds: float) -> list[str]:
        with self.space.own(name) as key:
            return self.pools.lease(key, wanted, who, seconds)

    def label(self, name: str, labels: Mapping[str, str], who: str) -> list[PoolLabel]:
        with self.space.own(name) as key:
            return self.pools.label(key, labels, who)

    def labels(self, name: str, after: int = 0, limit: int | None = None) -> list[PoolLabel]:
        with self.space.own(name) as key:
            return self.pools.labels(key, after, limit)

    def publish(self, name: str, datasets: TenantDatasets, base: Dataset | None) -> tuple[Dataset, bool, Decided]:
        with self.space.own(name) as key:
            made, created, agreed = publish_pool(self.pools, key, datasets.store, base, self.space.identity.actor)
        return named(made, name), created, agreed

    def delete(self, name: str) -> None:
        with self.space.own(name) as key:
            self.pools.delete(key)
