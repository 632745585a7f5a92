"""Requests that start at what the trunk gave for the same image before, in memory (LENSMOUNT_TRUNK_CACHE_BYTES)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from lensmount_adapters.inputs.prepare import PreparedInput
from lensmount_service.archive.entry import KeptOutput
from lensmount_service.archive.outputs import KeptOutputs
from lensmount_service.engine.engine import Answer
from lensmount_service.engine.scheduler import QueuedImage
from lensmount_service.errors import Unavailable
from lensmount_service.routes.context import TenantContext
from lensmount_service.routes.outcomes import DecodedInput
from lensmount_service.store.catalog import Snapshot
from lensmount_service.tracing.span import current
from lensmount_service.web.bodies import Part, off_loop
from lensmount_service.web.schemas import ImageRef

GROUP = "trunk"  # what starts at the trunk's output is in no batch with images


@dataclass(frozen=True, slots=True, eq=False)
class Recalled:
    """What is kept for the images of one request. `keys` are those of each image, by adapter."""

    outputs: KeptOutputs
    parts: Sequence[Part]
    snapshots: Sequence[Snapshot]
    keys: Sequence[Sequence[str | None]]
    found: Mapping[str, KeptOutput]

    @classmethod
    async def of(
        cls, context: TenantContext, outputs: KeptOutputs, parts: Sequence[Part], snapshots: Sequence[Snapshot]
    ) -> Self | None:
        """None if nothing is kept: if that is off, or if the shadow of a rollout needs the image itself."""
        if not outputs.memory.max_bytes or any(each.shadowed for each in snapshots):
            return None
        tenant = context.identity.tenant
        digests = await off_loop(
            sum(len(part.data) for part in parts), lambda: [hashlib.sha256(part.data).hexdigest() for part in parts]
        )
        keys = [[outputs.key(tenant, digest, each.adapter) for each in snapshots] for digest in digests]
        looked = {key: outputs.find(key, disk=False) for of_image in keys for key in of_image if key is not None}
        return cls(outputs, parts, snapshots, keys, {key: each for key, each in looked.items() if each is not None})

    @property
    def missing(self) -> list[Part]:
        """The images that have to be decoded."""
        return [part for part, keys in zip(self.parts, self.keys, strict=True) if not self._has(keys)]

    def sources(self, decoded: Sequence[DecodedInput]) -> list[DecodedInput]:
        """All images of the request in order; `decoded` are those that were missing."""
        rest = iter(decoded)
        return [self._source(index, keys, rest) for index, keys in enumerate(self.keys)]

    def items(
        self, context: TenantContext, sources: Sequence[DecodedInput], deadline: float
    ) -> list[QueuedImage[Answer]]:
        """What the engine computes: images outer, adapters inner."""
        made: list[QueuedImage[Answer]] = []
        for source, keys in zip(sources, self.keys, strict=True):
            asked: set[str] = set()
            for snapshot, key in zip(self.snapshots, keys, strict=True):
                kept = None if key is None else self.found.get(key)
                x = source.prepared.inputs[snapshot.adapter.manifest.preprocessing] if kept is None else kept.x
                item: QueuedImage[Answer] = QueuedImage(snapshot.adapter, x, deadline, caller=context.identity.key)
                item.tenant, item.traced = context.identity.tenant, current().recording
                item.name = snapshot.version.name
                if kept is not None:
                    item.group, item.from_trunk = GROUP, True
                elif key is not None and key not in asked:
                    item.keeps = True
                    asked.add(key)
                made.append(item)
        return made

    def keep(self, sources: Sequence[DecodedInput], answers: Sequence[Answer | Unavailable]) -> None:
        """Keep what the trunk gave; `answers` are in the order of `items`."""
        rest = iter(answers)
        for source, keys in zip(sources, self.keys, strict=True):
            for key in keys:
                answer = next(rest)
                if key is not None and isinstance(answer, Answer) and answer.trunk is not None:
                    self.outputs.keep(key, KeptOutput(answer.trunk, source.prepared.size), disk=False)

    def _has(self, keys: Sequence[str | None]) -> bool:
        return all(key in self.found for key in keys)

    def _source(self, index: int, keys: Sequence[str | None], decoded: Iterator[DecodedInput]) -> DecodedInput:
        image = ImageRef(index=index, name=self.parts[index].name)
        if not self._has(keys):
            return replace(next(decoded), image=image)
        (size, *_) = [self.found[key].size for key in keys if key is not None]
        return DecodedInput(image, PreparedInput({}, size), 0.0)
