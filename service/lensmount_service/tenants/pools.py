"""The pools of one tenant: images that wait for labels. Pools are not shared, even if their dataset is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lensmount_service.pools.overview import PoolSummary
from lensmount_service.pools.pools import Pools
from lensmount_service.pools.rows import Answered, CheckedImage, Decided, PoolImage, PoolLabel, PoolState
from lensmount_service.pools.versions import publish_pool
from lensmount_service.store.datasets import Dataset
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.tenants.datasets import TenantDatasets, named
from lensmount_service.tenants.space import Space


@dataclass(frozen=True, slots=True)
class TenantPools:
    """`pools.label("cells", {digest: "a"}, "reader1")`: the methods of Pools for one tenant; safe from any thread.

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

    def checked(self, data: bytes) -> CheckedImage:
        return self.pools.checked(data)

    def add_all(
        self,
        name: str,
        images: Sequence[CheckedImage],
        who: str,
        group: str | None = None,
        expected: Precondition = ANY,
    ) -> list[tuple[PoolImage, bool]]:
        with self.space.own(name) as key:
            return self._paid.add_all(key, images, who, group, expected)

    def correct(
        self, name: str, data: bytes, label: str, who: str, answered: Answered, expected: Precondition = ANY
    ) -> PoolImage:
        with self.space.own(name) as key:
            return self._paid.correct(key, data, label, who, answered, expected)

    def state(self, name: str) -> PoolState:
        with self.space.own(name) as key:
            return self.pools.state(key)

    def summaries(self) -> list[PoolSummary]:
        """Those of the tenant alone."""
        return self.pools.summaries(self.space.tenant)

    def images(self, name: str) -> list[PoolImage]:
        with self.space.own(name) as key:
            return self.pools.images(key)

    def read(self, name: str, digest: str) -> bytes:
        with self.space.own(name) as key:
            return self.pools.read(key, digest)

    def free(self, name: str, who: str, expected: Precondition = ANY) -> tuple[list[str], list[str], list[str]]:
        with self.space.own(name) as key:
            return self.pools.free(key, who, expected)

    def lease(self, name: str, wanted: Sequence[str], who: str, seconds: float) -> list[str]:
        with self.space.own(name) as key:
            return self.pools.lease(key, wanted, who, seconds)

    def label(self, name: str, labels: Mapping[str, str], who: str, expected: Precondition = ANY) -> list[PoolLabel]:
        with self.space.own(name) as key:
            return self.pools.label(key, labels, who, expected)

    def labels(self, name: str, after: int = 0, limit: int | None = None) -> list[PoolLabel]:
        with self.space.own(name) as key:
            return self.pools.labels(key, after, limit)

    def answers(self, name: str, digests: Sequence[str]) -> dict[str, str]:
        with self.space.own(name) as key:
            return self.pools.answers(key, digests)

    def publish(
        self, name: str, datasets: TenantDatasets, base: Dataset | None, expected: Precondition = ANY
    ) -> tuple[Dataset, bool, Decided]:
        """`expected` is about the dataset."""
        with self.space.own(name) as key:
            owner = self.space.identity.actor
            made, created, agreed = publish_pool(self.pools, key, datasets.store, base, owner, expected)
        return named(made, name), created, agreed

    def delete(self, name: str, expected: Precondition = ANY) -> None:
        with self.space.own(name) as key:
            self.pools.delete(key, expected)
