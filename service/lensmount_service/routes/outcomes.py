"""What became of each image with each adapter of a prediction request: an answer or a failure, and how it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.inputs.prepare import PreparedInput
from lensmount_service.engine.engine import Answer
from lensmount_service.errors import Unavailable, Unusable
from lensmount_service.metrics import Metrics
from lensmount_service.monitoring.usage import Counted
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.registry import Version
from lensmount_service.web.judgement import judged, promised_score, why_abstained
from lensmount_service.web.masks import Drawing
from lensmount_service.web.problems import status_of
from lensmount_service.web.schemas import (
    AdapterRef,
    BackboneInfo,
    FailedResult,
    Fallback,
    ImagePrediction,
    ImageRef,
    LabelScore,
    ResultError,
    Segmentation,
    SegmentedImagePrediction,
    Timing,
)
from lensmount_service.web.trust_schemas import TrustInfo

Result = ImagePrediction | SegmentedImagePrediction | FailedResult


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of a request."""

    adapter: str
    top_k: int = 10_000
    strict: bool = False
    timeout_s: float = 60.0
    low: bool = False  # behind all other requests, as the images of an archive


@dataclass(frozen=True, slots=True)
class Unserved:
    """An adapter of the request that cannot be computed, and why."""

    version: Version
    error: Unusable


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInput:
    """One posted image or volume, and the seconds that it took to decode."""

    image: ImageRef
    prepared: PreparedInput
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class ComputedPrediction:
    """What was computed for one image and one adapter. `drawing` is None for an adapter without masks."""

    source: DecodedInput
    snapshot: Snapshot
    answer: Answer
    drawing: Drawing | None


@dataclass(frozen=True, slots=True, eq=False)
class FailedPrediction:
    """What could not be computed for one image, and which version is to blame."""

    source: DecodedInput
    version: Version
    error: Unavailable | LensmountError

    def result(self) -> FailedResult:
        version, error = self.version, self.error
        return FailedResult(
            adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest),
            image=self.source.image,
            error=ResultError(status=status_of(error), code=error.code, detail=str(error)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """All of a request: images outer, adapters inner. `asked` counts each adapter, `form` is that of the drawings."""

    wanted: Wanted
    form: str
    every: Sequence[ComputedPrediction | FailedPrediction]
    asked: Sequence[Counted]
    total_s: float


@dataclass(frozen=True, slots=True)
class Results:
    """`Results(backbone, metrics, wanted, request_id, total_s).all(outcomes, asked)` is what the response tells."""

    backbone: Backbone
    metrics: Metrics
    wanted: Wanted
    request_id: str
    total_s: float

    def all(self, outcomes: Sequence[ComputedPrediction | FailedPrediction], asked: Sequence[Counted]) -> list[Result]:
        """Images outer, adapters inner. `asked` counts the answers of each adapter."""
        images = len(outcomes) // len(asked)
        return [
            self._of(each, counted, images) if isinstance(each, ComputedPrediction) else self._failed(each)
            for each, counted in zip(outcomes, list(asked) * images, strict=True)
        ]

    def _failed(self, failed: FailedPrediction) -> FailedResult:
        self.metrics.refused(failed.error.code, status_of(failed.error))
        return failed.result()

    def _of(
        self, computed: ComputedPrediction, counted: Counted, images: int
    ) -> ImagePrediction | SegmentedImagePrediction:
        answer, version = computed.answer, computed.snapshot.version
        segmentation = computed.drawing if isinstance(computed.drawing, Segmentation) else None
        scores = answer.scores.tolist() if segmentation is None else segmentation.shares()
        ranked = sorted(zip(version.manifest.labels, scores, strict=True), key=lambda pair: -pair[1])
        asked = computed.snapshot.instead_of
        common: dict[str, Any] = {
            "adapter": AdapterRef(name=version.name, version=version.version, digest=version.digest),
            "backbone": BackboneInfo(name=self.backbone.name, fingerprint=self.backbone.fingerprint),
            "predictions": [
                LabelScore(label=label, score=min(1.0, score)) for label, score in ranked[: self.wanted.top_k]
            ],
            "request_id": self.request_id,
            "timing_ms": Timing(
                queue=_ms(answer.queue_s),
                decode=_ms(computed.source.seconds),
                swap=_ms(answer.swap_s),
                forward=_ms(answer.forward_s),
                total=_ms(self.total_s),
            ),
            "image": computed.source.image,
            "fallback": None if asked is None else Fallback(asked=asked, served=version.version),
        }
        if segmentation is not None:
            return SegmentedImagePrediction(**common, segmentation=segmentation)
        judgement = judged(computed.snapshot, scores, answer.pooled)
        counted.image(ranked[0][0], judgement, promised_score(version), images)
        abstained = why_abstained(version, judgement) if self.wanted.strict else None
        if abstained is not None:
            common["predictions"] = []
        trust = None if judgement is None else TrustInfo.of(judgement)
        return ImagePrediction(**common, trust=trust, abstained=abstained)


def in_order(
    found: Sequence[Snapshot | Unserved],
    sources: Sequence[DecodedInput],
    computed: Sequence[ComputedPrediction | FailedPrediction],
) -> list[ComputedPrediction | FailedPrediction]:
    """Images outer, adapters inner, with the failure of each adapter that is not served in its place."""
    results = iter(computed)
    return [
        FailedPrediction(source, each.version, each.error) if isinstance(each, Unserved) else next(results)
        for source in sources
        for each in found
    ]


async def all_told(futures: Sequence[Future[Answer]], titles: Sequence[str]) -> list[Answer | Unavailable]:
    """The answers in order, or the failure of each, which names its title. Other errors are raised."""
    try:
        return [await _told(future, title) for future, title in zip(futures, titles, strict=True)]
    finally:
        for future in futures:
            future.cancel()


async def _told(future: Future[Answer], title: str) -> Answer | Unavailable:
    """The answer, or its failure, which says under which name and version the bytes were served."""
    try:
        return await asyncio.wrap_future(future)
    except Unavailable as error:
        return type(error)(f"{title}: {error}", code=error.code, retry_after_s=error.retry_after_s)


def answered_by(version: Version) -> dict[str, str]:
    """The header that says which bytes answered, for answers that have no other room for it."""
    return {"Lensmount-Adapter": f"{version.name}@{version.version}; {version.digest}"}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
