"""Answers for the images of an archive: behind all requests, and from what the trunk gave before where it is kept.

An image whose trunk outputs are kept is neither decoded nor put through the trunk; of a dataset, it is not even read.
Trunk and branch run by themselves and each adapter alone, so an answer has the same bits whether its image was kept or
not, as long as it shares its batch with as many others.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from torch import Tensor

from lensmount_adapters.errors import LensmountError
from lensmount_adapters.inputs.prepare import PreparedInput, prepare, stated_size
from lensmount_adapters.inputs.rules import InputRule
from lensmount_service.archive.entry import KeptOutput
from lensmount_service.engine.engine import Answer
from lensmount_service.engine.fair_pool import LARGE
from lensmount_service.engine.scheduler import QueuedImage
from lensmount_service.errors import Unavailable
from lensmount_service.routes.context import AppContext, TenantContext
from lensmount_service.routes.decoding import every, input_limits
from lensmount_service.routes.outcomes import DecodedInput, all_told
from lensmount_service.store.catalog import Snapshot
from lensmount_service.web.bodies import Part
from lensmount_service.web.schemas import ImageRef

GROUP = "archive"  # no request is in a batch with such images
OF_SERVER = ("draining", "device_lost")  # what no image is to blame for
COST = LARGE + 1  # of what states no size: it never takes the last thread that reads images
KEPT_BYTES = 2**20  # of a file until it is decoded; larger ones are read again, because a hundred may wait
TOGETHER = 200_000  # pixels that one thread decodes in one turn: eight cells of 150 x 150, some 5 ms


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """One image of an archive. `digest` is the SHA-256 of its bytes in hexadecimal digits, if that is known."""

    name: str | None
    read: Callable[[], bytes]
    digest: str | None = None

    @classmethod
    def of(cls, part: Part) -> Self:
        return cls(part.name, lambda: part.data)


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnswers:
    """What became of an image: an answer or a failure for each adapter; or none, and why it cannot be read."""

    source: DecodedInput
    answers: Sequence[Answer | Unavailable] = ()
    error: LensmountError | None = None


@dataclass(slots=True, eq=False)
class _Begun:
    """An image that is being answered: a key for each adapter, and what the trunk gave, by key."""

    source: DecodedInput
    keys: Sequence[str | None] = ()
    trunk: dict[str, Tensor] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    answers: dict[int, Answer | Unavailable] = field(default_factory=dict)
    error: LensmountError | None = None
    rules: Collection[InputRule] = ()
    read: Callable[[], bytes] = bytes  # again, for a large image
    data: bytes = b""
    pixels: int = 0

    def inputs(self, adapters: Iterable[int]) -> tuple[list[tuple[int, str | None, bool]], list[int]]:
        """What can be computed now: which adapters, with their keys, and whether the trunk is kept; and what waits.

        Of adapters with one trunk, the first computes it and the others wait for what it gives.
        """
        now: list[tuple[int, str | None, bool]] = []
        waiting: list[int] = []
        asked: set[str] = set()
        for adapter in adapters:
            key = self.keys[adapter]
            if key is not None and key in asked:
                waiting.append(adapter)
                continue
            now.append((adapter, key, key is not None and key in self.trunk))
            if key is not None and key not in self.trunk:
                asked.add(key)
        return now, waiting


class ArchiveAnswers:
    """`await ArchiveAnswers(app).compute(context, images, snapshots)`: for each image its answers, in order."""

    def __init__(self, app: AppContext) -> None:
        self._engine = app.engine
        self._decoders = app.decoders
        self._outputs = app.outputs
        self._limits = input_limits(app.settings)

    async def compute(
        self,
        context: TenantContext,
        images: Sequence[SourceImage],
        snapshots: Sequence[Snapshot],
        expires_at: float = math.inf,
    ) -> list[ImageAnswers]:
        """The adapters were prepared. An image that cannot be read fails alone.

        Raises QueueFull, DeadlineExceeded or Unavailable (`draining`, `device_lost`).
        """
        line = ("archive", context.caller, object())
        look = partial(self._look, context, images=images, snapshots=snapshots)
        (begun,) = await every([self._decoders.submit_for(line, 0, look)])
        await every(
            [
                self._decoders.submit_for(line, sum(each.pixels for each in group), partial(self._decode, group))
                for group in groups(each for each in begun if each.rules)
            ]
        )
        left = {index: list(range(len(snapshots))) for index, each in enumerate(begun) if each.error is None}
        while left:
            left = await self._round(context, begun, snapshots, left, expires_at)
        await asyncio.to_thread(self._keep, begun)
        return [
            ImageAnswers(each.source, [each.answers[n] for n in sorted(each.answers)], each.error) for each in begun
        ]

    def _look(
        self, context: TenantContext, images: Sequence[SourceImage], snapshots: Sequence[Snapshot]
    ) -> list[_Begun]:
        return [self._begin(context, index, image, snapshots) for index, image in enumerate(images)]

    def _begin(self, context: TenantContext, index: int, image: SourceImage, snapshots: Sequence[Snapshot]) -> _Begun:
        """Look for what is kept, and read the image if something is missing."""
        ref = ImageRef(index=index, name=image.name)
        try:
            data = None if image.digest is not None else image.read()
            digest = image.digest or hashlib.sha256(data or b"").hexdigest()
            keys = [self._outputs.key(context.identity.tenant, digest, each.adapter) for each in snapshots]
            found = {key: self._outputs.find(key, disk=True) for key in set(keys) if key is not None}
            sizes = [output.size for output in found.values() if output is not None]
            begun = _Begun(DecodedInput(ref, PreparedInput({}, sizes[0] if sizes else None), 0.0), keys)
            begun.trunk = {key: output.x for key, output in found.items() if output is not None}
            pairs = zip(snapshots, keys, strict=True)
            begun.rules = {
                each.adapter.manifest.preprocessing for each, key in pairs if key is None or key not in begun.trunk
            }
            if begun.rules:
                data = image.read() if data is None else data
                begun.pixels = self._pixels(data)
                begun.read, begun.data = image.read, data if len(data) <= KEPT_BYTES else b""
        except LensmountError as error:
            return _Begun(DecodedInput(ref, PreparedInput({}, None), 0.0), error=error)
        return begun

    def _pixels(self, data: bytes) -> int:
        """What its header states; an image whose header cannot be read is refused when it is decoded."""
        try:
            return stated_size(data, self._limits.image)
        except LensmountError:  # a volume, too
            return COST

    def _decode(self, group: Sequence[_Begun]) -> None:
        for begun in group:
            try:
                begun.source = replace(
                    begun.source, prepared=prepare(begun.data or begun.read(), begun.rules, self._limits)
                )
            except LensmountError as error:
                begun.error = error
            begun.data = b""

    async def _round(
        self,
        context: TenantContext,
        begun: Sequence[_Begun],
        snapshots: Sequence[Snapshot],
        left: dict[int, list[int]],
        expires_at: float,
    ) -> dict[int, list[int]]:
        """Compute what can be computed now. Returns the adapters that are left, by image."""
        items: list[QueuedImage[Answer]] = []
        places: list[tuple[int, int, str | None]] = []
        waiting: dict[int, list[int]] = {}
        for index, adapters in left.items():
            image = begun[index]
            now, waiting[index] = image.inputs(adapters)
            for number, key, kept in now:
                adapter = snapshots[number].adapter
                x = image.trunk[key] if kept and key else image.source.prepared.inputs[adapter.manifest.preprocessing]
                item: QueuedImage[Answer] = QueuedImage(adapter, x, expires_at, GROUP, context.caller)
                item.tenant, item.low, item.apart = context.identity.tenant, True, True
                item.from_trunk, item.keeps = kept, key is not None and not kept
                items.append(item)
                places.append((index, number, key))
        titles = [snapshots[number].title for _, number, _ in places]
        for (index, number, key), answer in zip(places, await all_told(self._engine.queue(items), titles), strict=True):
            image = begun[index]
            if isinstance(answer, Unavailable) and answer.code in OF_SERVER:
                raise answer
            image.answers[number] = answer
            if key is not None and isinstance(answer, Answer) and answer.trunk is not None:
                image.trunk[key] = answer.trunk
                image.new.add(key)
        return {index: adapters for index, adapters in waiting.items() if adapters}

    def _keep(self, begun: Sequence[_Begun]) -> None:
        for each in begun:
            for key in each.new:
                self._outputs.keep(key, KeptOutput(each.trunk[key], each.source.prepared.size), disk=True)


def groups(begun: Iterable[_Begun]) -> Iterator[list[_Begun]]:
    """Neighbours that are decoded in one turn: small images, or one large one."""
    group: list[_Begun] = []
    pixels = 0
    for each in begun:
        if group and pixels + each.pixels > TOGETHER:
            yield group
            group, pixels = [], 0
        group.append(each)
        pixels += each.pixels
    if group:
        yield group
