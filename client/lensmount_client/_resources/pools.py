"""The `pools` of a client: images that wait for labels, and the labels that people give them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping

from lensmount_client._api import labelling as endpoints
from lensmount_client._api.labelling import Wanted
from lensmount_client._files.image import image_bytes
from lensmount_client._http.operation import AsyncSendCall, SendCall, arun_operation, run_operation
from lensmount_client._types.datasets import LabelInfo, NextImages, Pool, Published, UnlabelledImage
from lensmount_client._types.inputs import ImageInput


class Pools:
    """`client.pools.next("cells", "malaria", who="reader1").items[0].digest`. A pool has the name of its dataset."""

    def __init__(self, send: SendCall) -> None:
        self._send = send

    def list(self) -> builtins.list[Pool]:
        """All pools by name; corrections of an adapter's answers are in NAME-feedback."""
        return self._send(endpoints.list_pools())

    def add(self, name: str, image: ImageInput, who: str, group: str | None = None) -> UnlabelledImage:
        """Send an image that waits for a label. `group` is its patient, slide or source."""
        return self._send(endpoints.add_unlabelled(name, image_bytes(image), who, group))

    def next(
        self,
        name: str,
        adapter: str,
        who: str,
        n: int = 10,
        strategy: str = "staged",
        lease_s: float = 900.0,
    ) -> NextImages:
        """The images that `who` labels next; nobody else gets them for `lease_s` seconds.

        Waits until the adapter has computed the pool. `strategy` is staged, typical, margin, entropy or diverse.
        """
        wanted = Wanted(adapter, who, n, strategy, lease_s)
        return run_operation(endpoints.next_images(name, wanted), self._send)

    def png(self, name: str, digest: str, side: int = 512) -> bytes:
        """An image of the pool as a PNG with at most `side` pixels on its longer side."""
        return self._send(endpoints.unlabelled_png(name, digest, side))

    def label(self, name: str, labels: Mapping[str, str], who: str) -> builtins.list[LabelInfo]:
        """Add up to 1,000 labels, by digest. They are durable once this returns."""
        return self._send(endpoints.add_labels(name, labels, who))

    def labels(self, name: str) -> builtins.list[LabelInfo]:
        """Who said what about which image, in order."""
        return run_operation(endpoints.list_labels(name), self._send)

    def publish(self, name: str, base: str | None = None) -> Published:
        """Make a version of the labelled images and of those of `base`, NAME or NAME@VERSION."""
        return self._send(endpoints.publish(name, base))

    def delete(self, name: str) -> None:
        """Delete the images and labels of a pool. Versions that were made of them stay."""
        return self._send(endpoints.delete_unlabelled(name))


class AsyncPools:
    """Like `Pools`, for AsyncClient: `(await client.pools.next("cells", "malaria", who="reader1")).items`."""

    def __init__(self, send: AsyncSendCall) -> None:
        self._send = send

    async def list(self) -> builtins.list[Pool]:
        """See `Pools.list`."""
        return await self._send(endpoints.list_pools())

    async def add(self, name: str, image: ImageInput, who: str, group: str | None = None) -> UnlabelledImage:
        """See `Pools.add`."""
        return await self._send(endpoints.add_unlabelled(name, image_bytes(image), who, group))

    async def next(
        self,
        name: str,
        adapter: str,
        who: str,
        n: int = 10,
        strategy: str = "staged",
        lease_s: float = 900.0,
    ) -> NextImages:
        """See `Pools.next`."""
        wanted = Wanted(adapter, who, n, strategy, lease_s)
        return await arun_operation(endpoints.next_images(name, wanted), self._send)

    async def png(self, name: str, digest: str, side: int = 512) -> bytes:
        """See `Pools.png`."""
        return await self._send(endpoints.unlabelled_png(name, digest, side))

    async def label(self, name: str, labels: Mapping[str, str], who: str) -> builtins.list[LabelInfo]:
        """See `Pools.label`."""
        return await self._send(endpoints.add_labels(name, labels, who))

    async def labels(self, name: str) -> builtins.list[LabelInfo]:
        """See `Pools.labels`."""
        return await arun_operation(endpoints.list_labels(name), self._send)

    async def publish(self, name: str, base: str | None = None) -> Published:
        """See `Pools.publish`."""
        return await self._send(endpoints.publish(name, base))

    async def delete(self, name: str) -> None:
        """See `Pools.delete`."""
        return await self._send(endpoints.delete_unlabelled(name))
