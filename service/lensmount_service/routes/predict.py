"""POST /predict: labels or masks for images, computed by the resident backbone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.backbone.names import is_of_volumes
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, PreparedInput, prepare, stated_size
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.inputs.volumes import VolumeLimits
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.engine.engine import Answer
from lensmount_service.engine.fair_pool import LARGE
from lensmount_service.errors import BodyTooLarge, RequestInvalid
from lensmount_service.routes.charges import charged
from lensmount_service.routes.context import AppContext, TenantContext, caller_of, context_of
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference, parse_references
from lensmount_service.web.bodies import Part, is_multipart, read_multipart, read_raw
from lensmount_service.web.deadline import deadline
from lensmount_service.web.judgement import judged, why_abstained
from lensmount_service.web.masks import FORMS, Drawing, read_masks
from lensmount_service.web.negotiation import JSON, negotiate
from lensmount_service.web.openapi import PROBLEMS, image_body, mask_answers
from lensmount_service.web.problems import status_of
from lensmount_service.web.schemas import (
    AdapterRef,
    BackboneInfo,
    ImagePrediction,
    ImageRef,
    LabelScore,
    Prediction,
    Predictions,
    Segmentation,
    SegmentedImagePrediction,
    SegmentedPrediction,
    Timing,
)
from lensmount_service.web.trust_schemas import TrustInfo

T = TypeVar("T")


def predict_router(context: AppContext) -> APIRouter:
    """A function, because the default of `timeout` is a setting."""
    router = APIRouter(route_class=GuardedRoute, tags=["predict"])
    predictor = Predictor(context)

    @router.post(
        "/predict",
        response_model=SegmentedPrediction | Prediction | Predictions,
        responses={**PROBLEMS, 200: {"content": mask_answers()}},
        openapi_extra=image_body(),
        summary="Label images",
    )
    async def predict(
        request: Request,
        adapter: Annotated[
            str,
            Query(
                description="One reference or several, separated by commas: `name`, `name@version`, "
                "`name@sha256:...`, `name:alias`.",
                examples=["malaria", "malaria@1,malaria@2", "malaria@2", "malaria:prod"],
                max_length=2048,
            ),
        ],
        top_k: Annotated[
            int, Query(ge=1, le=10_000, description="The number of labels to return, best first.")
        ] = 10_000,
        decision: Annotated[
            Literal["always", "strict"],
            Query(
                description="always: labels for every image. strict: labels only where `trust.decision` is accept; "
                "otherwise `predictions` is empty and `abstained` says why.",
            ),
        ] = "always",
        timeout_s: Annotated[
            float,
            Query(
                alias="timeout",
                gt=0,
                le=MAX_REQUEST_TIMEOUT_S,
                description="Seconds from the complete body to the response. After that the response is 504, and "
                "images still queued are not computed.",
            ),
        ] = context.settings.request_timeout_s,
    ) -> Response:
        """Post one image as the raw body, or one or several as multipart parts named `file`.

        A segmentation adapter adds its masks as `segmentation`. With `Accept: image/png` or `application/geo+json`, the
        response to one image is only the masks.

        One image and one adapter give one prediction. Several give `results`, ordered by image and then by adapter. If
        one image cannot be read, the whole request is refused.
        """
        wanted = Wanted(adapter, top_k, strict=decision == "strict", timeout_s=timeout_s)
        return await predictor.predict(request, wanted)

    return router


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of a request."""

    adapter: str
    top_k: int = 10_000
    strict: bool = False
    timeout_s: float = 60.0


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


class Predictor:
    """`await Predictor(context).predict(request, Wanted("malaria"))` returns the response."""

    def __init__(self, context: AppContext) -> None:
        settings = context.settings
        self._engine = context.engine
        self._metrics = context.metrics
        self._settings = settings
        self._decoders = context.decoders
        self._answered = context.answered
        self._limits = InputLimits(
            ImageLimits(settings.max_image_bytes, settings.max_pixels),
            VolumeLimits(settings.max_volume_bytes, settings.max_voxels),
        )
        volumes = is_of_volumes(context.engine.backbone.name)
        self._max_bytes = settings.max_volume_bytes if volumes else settings.max_image_bytes

    async def predict(self, request: Request, wanted: Wanted) -> Response:
        started = time.perf_counter()
        context = context_of(request)
        with self._failures_counted(["none"]):
            snapshots = await self._resolve(context, wanted.adapter)
        names = [context.label(snapshot.version.name) for snapshot in snapshots]
        with self._failures_counted(names):
            form = _form(request, snapshots)
            if wanted.strict:
                _check_labels(snapshots)
            self._engine.check_room([snapshot.adapter for snapshot in snapshots], caller_of(request))
            computed = await self._compute(request, form, snapshots, names, wanted.timeout_s)
        total_s = time.perf_counter() - started
        self._metrics.request_seconds.observe(total_s)
        for name in names:
            self._metrics.requests.labels(name, "200").inc()
        if form != JSON:
            return _masks_alone(form, computed[0])
        request_id: str = request.state.request_id
        labels = names * (len(computed) // len(names))  # images outer, adapters inner
        results = [
            self._result(each, label, wanted, request_id, total_s) for each, label in zip(computed, labels, strict=True)
        ]
        if len(results) == 1:
            return _json(results[0].model_dump_json(exclude={"image"}))
        return _json(Predictions(results=results, request_id=request_id).model_dump_json())

    @contextmanager
    def _failures_counted(self, names: Sequence[str]) -> Iterator[None]:
        """Count a request that fails inside, once per name."""
        try:
            yield
        except Exception as error:
            for name in names:
                self._metrics.requests.labels(name, str(status_of(error))).inc()
            raise

    async def _resolve(self, context: TenantContext, adapter: str) -> list[Snapshot]:
        references = parse_references(adapter, self._settings.max_adapters_per_request)
        return [await _snapshot_of(context, reference) for reference in references]

    async def _compute(
        self, request: Request, form: str, snapshots: list[Snapshot], names: list[str], timeout_s: float
    ) -> list[ComputedPrediction]:
        """Images outer, adapters inner. The time limit starts when the whole body has arrived."""
        parts = await self._read_images(request)
        _check_one(form, parts)
        self._engine.require_fit(len(parts) * len(snapshots))
        expires_at = time.perf_counter() + timeout_s
        async with deadline(request, timeout_s), charged(request, parts, len(snapshots), self._settings.max_queue):
            await self._prepare(snapshots)
            sources = await self._decode(caller_of(request), parts, snapshots)
            answers = await self._answers(sources, snapshots, names, expires_at, caller_of(request))
            if len(parts) == 1:
                digests = frozenset(snapshot.version.digest for snapshot in snapshots)
                answered = f"{request.state.identity.tenant} {request.state.request_id}"
                self._answered.keep(answered, parts[0].data, digests)
            return await self._draw(form, sources, snapshots, answers)

    async def _read_images(self, request: Request) -> list[Part]:
        if is_multipart(request):
            parts, fields = await read_multipart(request, self._settings.max_request_bytes, self._settings.max_files)
            if fields:
                raise RequestInvalid(f"found the field {min(fields)[:40]!r}, expected only parts named `file`")
            return parts
        return [Part(await read_raw(request, self._max_bytes), None)]

    async def _prepare(self, snapshots: list[Snapshot]) -> None:
        """If an adapter needs a program that is not compiled yet, its request waits for it, and the engine does not."""
        for snapshot in snapshots:
            if not self._engine.runner.ready(snapshot.adapter):
                await asyncio.to_thread(self._engine.runner.prepare, snapshot.adapter)

    async def _decode(self, caller: str, parts: list[Part], snapshots: list[Snapshot]) -> list[DecodedInput]:
        """Decode each image or volume once and preprocess it once per distinct rule, off the event loop."""
        rules = {snapshot.adapter.manifest.preprocessing for snapshot in snapshots}
        sizes = await self._sizes(caller, parts, rules)

        def decode(index: int, part: Part) -> DecodedInput:
            started = time.perf_counter()
            prepared = prepare(part.data, rules, self._limits)
            return DecodedInput(ImageRef(index=index, name=part.name), prepared, time.perf_counter() - started)

        request = object()
        work = [partial(decode, index, part) for index, part in enumerate(parts)]
        return await _all([self._decoders.submit_for(caller, request, *each) for each in zip(sizes, work, strict=True)])

    async def _sizes(self, caller: str, parts: list[Part], rules: Collection[InputRule]) -> list[int]:
        """The pixels of each image, by its header. Raises BodyTooLarge (`batch_too_large`) for too many together."""
        if any(isinstance(rule, VolumePreprocessing) for rule in rules):
            return [LARGE] * len(parts)

        def look() -> list[int]:
            return [stated_size(part.data, self._limits.image) for part in parts]

        (sizes,) = await _all([self._decoders.submit_for(caller, object(), 0, look)])
        if sum(sizes) > self._settings.max_request_pixels:
            raise BodyTooLarge(
                f"found {len(parts)} images of {sum(sizes)} pixels together, expected at most "
                f"{self._settings.max_request_pixels}. Fix: send fewer images in one request, or scale them down",
                code="batch_too_large",
            )
        return sizes

    async def _answers(
        self, sources: list[DecodedInput], snapshots: list[Snapshot], names: list[str], expires_at: float, caller: str
    ) -> list[Answer]:
        """The engine's answers: images outer, adapters inner."""
        work = [
            (snapshot.adapter, source.prepared.inputs[snapshot.adapter.manifest.preprocessing])
            for source in sources
            for snapshot in snapshots
        ]
        gauges = [self._metrics.inflight.labels(name) for name in names]
        futures = self._engine.submit_many(work, expires_at, caller)
        for gauge in gauges:
            gauge.inc(len(sources))
        try:
            return await _all(futures)
        finally:
            for gauge in gauges:
                gauge.dec(len(sources))

    async def _draw(
        self, form: str, sources: list[DecodedInput], snapshots: list[Snapshot], answers: list[Answer]
    ) -> list[ComputedPrediction]:
        """Add the masks in this form, drawn off the event loop."""
        pairs = [(source, snapshot) for source in sources for snapshot in snapshots]
        computed = [ComputedPrediction(*pair, answer, None) for pair, answer in zip(pairs, answers, strict=True)]
        if not any(isinstance(s.adapter.manifest.head, SegmentationHead) for s in snapshots):
            return computed
        return await _all([self._decoders.submit(_with_drawing, form, each) for each in computed])

    def _result(
        self, computed: ComputedPrediction, label: str, wanted: Wanted, request_id: str, total_s: float
    ) -> ImagePrediction | SegmentedImagePrediction:
        answer, version = computed.answer, computed.snapshot.version
        segmentation = computed.drawing if isinstance(computed.drawing, Segmentation) else None
        scores = answer.scores.tolist() if segmentation is None else segmentation.shares()
        best = sorted(zip(version.manifest.labels, scores, strict=True), key=lambda pair: -pair[1])[: wanted.top_k]
        backbone = self._engine.backbone
        common: dict[str, Any] = {
            "adapter": AdapterRef(name=version.name, version=version.version, digest=version.digest),
            "backbone": BackboneInfo(name=backbone.name, fingerprint=backbone.fingerprint),
            "predictions": [LabelScore(label=label, score=min(1.0, score)) for label, score in best],
            "request_id": request_id,
            "timing_ms": Timing(
                queue=_ms(answer.queue_s),
                decode=_ms(computed.source.seconds),
                swap=_ms(answer.swap_s),
                forward=_ms(answer.forward_s),
                total=_ms(total_s),
            ),
            "image": computed.source.image,
        }
        if segmentation is not None:
            return SegmentedImagePrediction(**common, segmentation=segmentation)
        judgement = judged(computed.snapshot, scores, answer.pooled)
        if judgement is not None:
            self._metrics.decisions.labels(label, judgement.decision).inc()
        abstained = why_abstained(version, judgement) if wanted.strict else None
        if abstained is not None:
            common["predictions"] = []
        trust = None if judgement is None else TrustInfo.of(judgement)
        return ImagePrediction(**common, trust=trust, abstained=abstained)


async def _snapshot_of(context: TenantContext, reference: Reference) -> Snapshot:
    known = context.catalog.resolve_cached(reference)
    return known if known is not None else await asyncio.to_thread(context.catalog.resolve, reference)


def _form(request: Request, snapshots: Sequence[Snapshot]) -> str:
    """The media type of the response. Masks without JSON are offered only for a single segmentation adapter.

    In all other cases the response is JSON whatever `Accept` says, unless it asks for masks.
    """
    accept = request.headers.get("accept")
    if len(snapshots) == 1 and isinstance(snapshots[0].adapter.manifest.head, SegmentationHead):
        return negotiate(accept, list(FORMS), f"{snapshots[0].version.name} gives masks")
    if accept and any(form in accept.lower() for form in FORMS if form != JSON):
        several = "several adapters are answered in one JSON document"
        single = f"{snapshots[0].version.name} gives labels, not masks"
        return negotiate(accept, [JSON], several if len(snapshots) > 1 else single)
    return JSON


def _check_labels(snapshots: Sequence[Snapshot]) -> None:
    for snapshot in snapshots:
        if isinstance(snapshot.adapter.manifest.head, SegmentationHead):
            raise RequestInvalid(
                f"decision: found strict for {snapshot.version.name}, which gives masks, expected an adapter with "
                "labels. Fix: leave decision out"
            )


def _check_one(form: str, parts: Sequence[Part]) -> None:
    if form != JSON and len(parts) > 1:
        raise RequestInvalid(
            f"found {len(parts)} images for a response in {form}, expected one. Fix: ask for {JSON}, or send one image",
            code="single_image_required",
        )


def _with_drawing(form: str, computed: ComputedPrediction) -> ComputedPrediction:
    manifest = computed.snapshot.adapter.manifest
    if not isinstance(manifest.head, SegmentationHead):
        return computed
    size = computed.source.prepared.size
    assert size is not None  # a backbone of volumes gives no maps
    return replace(computed, drawing=FORMS[form](read_masks(manifest, computed.answer.scores, size)))


def _masks_alone(form: str, computed: ComputedPrediction) -> Response:
    """Masks have no room for the adapter's name, so a header says which adapter answered."""
    assert isinstance(computed.drawing, str | bytes)
    version = computed.snapshot.version
    return Response(
        computed.drawing,
        media_type=form,
        headers={"Lensmount-Adapter": f"{version.name}@{version.version}; {version.digest}"},
    )


async def _all(futures: list[Future[T]]) -> list[T]:
    """The results in order. Raises the first error in order."""
    try:
        return [await asyncio.wrap_future(future) for future in futures]
    finally:
        for future in futures:
            future.cancel()  # what is still queued after a timeout, a disconnect or another image's error


def _json(text: str) -> Response:
    """Send the text unchanged. FastAPI would validate one of our models again against its own type."""
    return Response(text, media_type="application/json")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
