"""The features of images of datasets: computed by the engine, a few at a time, and kept in memory.

The event loop owns all state. When images are added to a dataset, only theirs are computed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.draft.choice import Known
from lensmount_adapters.draft.features import feature_adapter, rule_of
from lensmount_adapters.draft.solve import Array
from lensmount_adapters.inputs.prepare import prepare
from lensmount_service.engine.engine import Answer
from lensmount_service.errors import QueueFull, QuotaExceeded
from lensmount_service.routes.context import AppContext, TenantContext
from lensmount_service.routes.decoding import input_limits
from lensmount_service.web.pixels import stated_pixels

T = TypeVar("T")
Read = Callable[[str], bytes]

AT_ONCE = 4  # images of one draft in the engine's queue, so that requests wait for little
MOST_DRAFTS = 2  # that are computed at a time, and as many more of callers who have none
KEPT_BYTES = 64 * 2**20  # 13,000 images with 1,280 features each; those used last stay
RETRY_S = 0.2  # while the engine's queue or that of its images is full


class DatasetFeatures:
    """`await DatasetFeatures(app).of(context, images, read)`: float64 [N, feature_dim], in the order of the images."""

    def __init__(self, app: AppContext) -> None:
        self._app = app
        self.rule = rule_of(app.engine.backbone)
        self._limits = input_limits(app.settings)
        self._adapter: Adapter = feature_adapter(app.engine.backbone, self.rule)
        self._known: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()  # by tenant and image
        self._bytes = 0
        self._drafts: Counter[str] = Counter()  # by caller

    @property
    def busy(self) -> int:
        """How many drafts are computed."""
        return self._drafts.total()

    async def of(self, context: TenantContext, images: Sequence[Known], read: Read) -> Array:
        """`read(path)` gives the bytes of an image. Each image that is decoded is charged to the caller.

        Raises QueueFull, ImageError, or QuotaExceeded: what is computed by then is kept, and the next request continues
        from there.
        """
        tenant = context.identity.tenant
        found: dict[str, np.ndarray] = {}
        with self._place(context.caller):
            runner = self._app.engine.runner
            if not runner.ready(self._adapter):
                await asyncio.to_thread(runner.prepare, self._adapter)
            missing = iter([image for image in images if not self._take(tenant, image.digest, found)])
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(self._compute(context, missing, read, found))
            except* Exception as errors:
                raise _first(errors) from None
        return np.stack([found[image.digest] for image in images]).astype(np.float64)

    async def _compute(
        self, context: TenantContext, missing: Iterator[Known], read: Read, found: dict[str, np.ndarray]
    ) -> None:
        """Compute the next missing image, and so on until there is none."""
        for image in missing:
            features = await self._one(context, image, read)
            found[image.digest] = features
            self._keep((context.identity.tenant, image.digest), features)

    async def _one(self, context: TenantContext, image: Known, read: Read) -> np.ndarray:
        queues = context.queues

        def prepared() -> Tensor:
            data = read(image.path)
            queues.charge(stated_pixels(data))
            return prepare(data, {self.rule}, self._limits).inputs[self.rule]

        pixels = await _admitted(lambda: self._app.thumbnails.run(prepared, caller=context.caller))

        async def submit() -> asyncio.Future[Answer]:
            return asyncio.wrap_future(queues.compute_apart(self._adapter, pixels))

        return (await (await _admitted(submit))).scores.numpy().astype(np.float32)

    def _take(self, tenant: str, digest: str, found: dict[str, np.ndarray]) -> bool:
        """Whether the features are kept; then they go into `found`. A tenant finds only its own."""
        features = self._known.get((tenant, digest))
        if features is None:
            return False
        self._known.move_to_end((tenant, digest))
        found[digest] = features
        return True

    def _keep(self, key: tuple[str, str], features: np.ndarray) -> None:
        if key not in self._known:
            self._known[key] = features
            self._bytes += features.nbytes
        while self._bytes > KEPT_BYTES:
            self._bytes -= self._known.popitem(last=False)[1].nbytes

    @contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        """Count a draft of this caller meanwhile. Raises QueueFull."""
        if self._drafts.total() >= MOST_DRAFTS * (1 if caller in self._drafts else 2):
            raise QueueFull(
                f"found {self._drafts.total()} drafts that are computed, expected fewer. Fix: try again later",
                retry_after_s=5,
            )
        self._drafts[caller] += 1
        try:
            yield
        finally:
            self._drafts[caller] -= 1
            self._drafts = +self._drafts


async def _admitted(ask: Callable[[], Awaitable[T]]) -> T:
    """The result of `ask`, which is asked again while a queue is full: requests of clients go first."""
    while True:
        try:
            return await ask()
        except QuotaExceeded:
            raise
        except QueueFull:
            await asyncio.sleep(RETRY_S)


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
