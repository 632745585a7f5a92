"""Turns the images or volumes of a request into the backbone's inputs, in the caller's turns, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, prepare, prepare_small, stated_size
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.inputs.volumes import VolumeLimits
from lensmount_service.engine.fair_pool import LARGE, SMALL, FairPool
from lensmount_service.errors import BodyTooLarge
from lensmount_service.routes.outcomes import DecodedInput
from lensmount_service.settings import Settings
from lensmount_service.web.bodies import Part
from lensmount_service.web.schemas import ImageRef

T = TypeVar("T")


def input_limits(settings: Settings) -> InputLimits:
    return InputLimits(
        ImageLimits(settings.max_image_bytes, settings.max_pixels),
        VolumeLimits(settings.max_volume_bytes, settings.max_voxels),
    )


@dataclass(frozen=True, slots=True)
class Decoding:
    """`await Decoding(pool, limits, 640_000_000).decode(("reader1", digests), parts, rules)`

    Each image or volume is decoded once, and prepared once for each rule. `max_pixels` is for a whole request.
    """

    pool: FairPool
    limits: InputLimits
    max_pixels: int

    async def decode(
        self, of: tuple[Hashable, ...], parts: list[Part], rules: Collection[InputRule]
    ) -> list[DecodedInput]:
        """Raises ImageError, or BodyTooLarge (`batch_too_large`) for too many pixels together."""
        if any(isinstance(rule, VolumePreprocessing) for rule in rules):
            sizes = [LARGE] * len(parts)
        elif len(parts) == 1:
            look = partial(self._small, parts[0], rules)
            (found,) = await every([self.pool.submit_for((*of, object()), SMALL, look)])
            if isinstance(found, DecodedInput):
                return [found]
            sizes = self._allowed([found])
        else:
            (found_sizes,) = await every([self.pool.submit_for((*of, object()), 0, partial(self._sizes, parts))])
            sizes = self._allowed(found_sizes)
        line = (*of, object())
        work = [partial(self._decode, index, part, rules) for index, part in enumerate(parts)]
        return await every([self.pool.submit_for(line, *each) for each in zip(sizes, work, strict=True)])

    def _small(self, part: Part, rules: Collection[InputRule]) -> DecodedInput | int:
        """The only image of a request, or its size if it is large. It saves a change of threads and a second look."""
        started = time.perf_counter()
        prepared = prepare_small(part.data, rules, self.limits, min(SMALL, self.max_pixels))
        if isinstance(prepared, int):
            return prepared
        return DecodedInput(ImageRef(index=0, name=part.name), prepared, time.perf_counter() - started)

    def _decode(self, index: int, part: Part, rules: Collection[InputRule]) -> DecodedInput:
        started = time.perf_counter()
        prepared = prepare(part.data, rules, self.limits)
        return DecodedInput(ImageRef(index=index, name=part.name), prepared, time.perf_counter() - started)

    def _sizes(self, parts: list[Part]) -> list[int]:
        """The pixels of each image, by its header."""
        return [stated_size(part.data, self.limits.image) for part in parts]

    def _allowed(self, sizes: list[int]) -> list[int]:
        if sum(sizes) > self.max_pixels:
            raise BodyTooLarge(
                f"found {len(sizes)} images of {sum(sizes)} pixels together, expected at most {self.max_pixels}. "
                "Fix: send fewer images in one request, or scale them down",
                code="batch_too_large",
            )
        return sizes


async def every(futures: Sequence[Future[T]]) -> list[T]:
    """The results in order. Raises the first error in order."""
    try:
        return [await asyncio.wrap_future(future) for future in futures]
    finally:
        for future in futures:
            future.cancel()  # what is still queued after a timeout, a disconnect or another image's error
