"""POST /predict: images in, labels out, from one resident backbone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request, Response

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.backbone.names import is_of_volumes
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, PreparedInput, prepare
from lensmount_adapters.inputs.volumes import VolumeLimits
from lensmount_service.engine.engine import Answer, Engine
from lensmount_service.errors import RequestInvalid
from lensmount_service.metrics import Metrics
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S, Settings
from lensmount_service.store.catalog import Catalog, Snapshot
from lensmount_service.store.references import Reference, parse_references
from lensmount_service.web.bodies import Part, is_multipart, read_multipart, read_raw
from lensmount_service.web.deadline import deadline
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

T = TypeVar("T")


def predict_router(
    engine: Engine, catalog: Catalog, metrics: Metrics, settings: Settings, decoders: Executor
) -> APIRouter:
    router = APIRouter(tags=["predict"])
    limits = InputLimits(
        ImageLimits(settings.max_image_bytes, settings.max_pixels),
        VolumeLimits(settings.max_volume_bytes, settings.max_voxels),
    )
    max_bytes = settings.max_volume_bytes if is_of_volumes(engine.backbone.name) else settings.max_image_bytes

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
        top_k: Annotated[int, Query(ge=1, le=10_000, description="How many labels, best first.")] = 10_000,
        timeout_s: Annotated[
            float,
            Query(
                alias="timeout",
                gt=0,
                le=MAX_REQUEST_TIMEOUT_S,
                description="Seconds from the whole body to the answer; then 504, and what waits is not computed.",
            ),
        ] = settings.request_timeout_s,
    ) -> Response:
        """Post one image as the raw body, or one or several as multipart parts named `file`.

        A segmentation adapter adds `segmentation`, its masks; with `Accept: image/png` or `application/geo+json` it
        answers one image with the masks alone.

        One image and one adapter give one prediction; several give `results`, images outer, adapters inner. A request
        with one image that cannot be read is refused as a whole.
        """
        started = time.perf_counter()
        names: list[str] = []
        try:
            references = parse_references(adapter, settings.max_adapters_per_request)
            engine.check_room()
            snapshots = [await _resolve(catalog, reference) for reference in references]
            names = [metrics.label(snapshot.version.name) for snapshot in snapshots]
            form = _form(request, snapshots)
            parts = await _read_images(request, settings, max_bytes)
            _check_one(form, parts)
            expires_at = time.perf_counter() + timeout_s
            async with deadline(request, timeout_s):
                await _prepare(engine, snapshots)
                images = await _decode(parts, snapshots, limits, decoders)
                answers = await _ask(engine, metrics, snapshots, images, expires_at)
                drawings = await _draw(form, snapshots, images, answers, decoders)
        except Exception as error:
            for name in names or ["none"]:
                metrics.requests.labels(name, str(status_of(error))).inc()
            raise
        total_s = time.perf_counter() - started
        metrics.request_seconds.observe(total_s)
        for name in names:
            metrics.requests.labels(name, "200").inc()
        request_id: str = request.state.request_id
        if form != JSON:
            return _masks_alone(form, drawings[0][0], snapshots[0])
        results = [
            _result(
                engine, snapshot, answers[row][column], drawings[row][column], top_k, request_id, images[row].seconds,
                total_s, ImageRef(index=row, name=part.name),
            )
            for row, part in enumerate(parts)
            for column, snapshot in enumerate(snapshots)
        ]  # fmt: skip
        if len(results) == 1:
            return _json(results[0].model_dump_json(exclude={"image"}))
        return _json(Predictions(results=results, request_id=request_id).model_dump_json())

    return router


def _form(request: Request, snapshots: Sequence[Snapshot]) -> str:
    """The media type of the answer: masks alone are offered where one adapter answers and gives masks.

    Where there is the document only, it is the answer to any `Accept` but one that asks for masks.
    """
    accept = request.headers.get("accept")
    if len(snapshots) == 1 and isinstance(snapshots[0].adapter.manifest.head, SegmentationHead):
        return negotiate(accept, list(FORMS), f"{snapshots[0].version.name} answers with masks")
    if accept and any(form in accept.lower() for form in FORMS if form != JSON):
        several = "several adapters answer in one document"
        alone = f"{snapshots[0].version.name} answers with labels, and has no masks"
        return negotiate(accept, [JSON], several if len(snapshots) > 1 else alone)
    return JSON


def _check_one(form: str, parts: Sequence[Part]) -> None:
    if form != JSON and len(parts) > 1:
        raise RequestInvalid(
            f"found {len(parts)} images for an answer in {form}, expected one. Fix: ask for {JSON}, or send one",
            code="single_image_required",
        )


async def _resolve(catalog: Catalog, reference: Reference) -> Snapshot:
    known = catalog.recall(reference)
    return known if known is not None else await asyncio.to_thread(catalog.resolve, reference)


async def _read_images(request: Request, settings: Settings, max_bytes: int) -> list[Part]:
    if is_multipart(request):
        parts, fields = await read_multipart(request, settings.max_request_bytes, settings.max_files)
        if fields:
            raise RequestInvalid(f"found the field {min(fields)[:40]!r}, expected only parts named `file`")
        return parts
    return [Part(await read_raw(request, max_bytes), None)]


async def _prepare(engine: Engine, snapshots: list[Snapshot]) -> None:
    """Where an adapter needs a program that is not made yet, its request waits, and not the engine."""
    for snapshot in snapshots:
        if not engine.runner.ready(snapshot.adapter):
            await asyncio.to_thread(engine.runner.prepare, snapshot.adapter)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedInput:
    """One posted image or volume, and the seconds that it took to decode."""

    prepared: PreparedInput
    seconds: float


async def _decode(
    parts: list[Part], snapshots: list[Snapshot], limits: InputLimits, decoders: Executor
) -> list[DecodedInput]:
    """Each image or volume decoded once and preprocessed once for each distinct rule, off the event loop."""
    rules = {snapshot.adapter.manifest.preprocessing for snapshot in snapshots}

    def work(part: Part) -> DecodedInput:
        started = time.perf_counter()
        return DecodedInput(prepare(part.data, rules, limits), time.perf_counter() - started)

    return await _all([decoders.submit(work, part) for part in parts])


async def _ask(
    engine: Engine,
    metrics: Metrics,
    snapshots: list[Snapshot],
    images: list[DecodedInput],
    expires_at: float,
) -> list[list[Answer]]:
    """One row an image, one column an adapter."""
    work = [
        (s.adapter, picture.prepared.inputs[s.adapter.manifest.preprocessing]) for picture in images for s in snapshots
    ]
    gauges = [metrics.inflight.labels(metrics.label(s.version.name)) for s in snapshots]
    futures = engine.submit_many(work, expires_at)
    for gauge in gauges:
        gauge.inc(len(images))
    try:
        flat = await _all(futures)
    finally:
        for gauge in gauges:
            gauge.dec(len(images))
    return [flat[row : row + len(snapshots)] for row in range(0, len(flat), len(snapshots))]


async def _draw(
    form: str,
    snapshots: list[Snapshot],
    images: list[DecodedInput],
    answers: list[list[Answer]],
    decoders: Executor,
) -> list[list[Drawing | None]]:
    """The masks of each image and adapter in that form, off the event loop; None for an adapter of labels."""

    def work(snapshot: Snapshot, picture: DecodedInput, answer: Answer) -> Drawing | None:
        manifest = snapshot.adapter.manifest
        if not isinstance(manifest.head, SegmentationHead):
            return None
        assert picture.prepared.size is not None  # no backbone of volumes gives maps
        return FORMS[form](read_masks(manifest, answer.scores, picture.prepared.size))

    if not any(isinstance(s.adapter.manifest.head, SegmentationHead) for s in snapshots):
        return [[None] * len(snapshots)] * len(images)
    futures = [
        decoders.submit(work, snapshot, picture, answer)
        for picture, row in zip(images, answers, strict=True)
        for snapshot, answer in zip(snapshots, row, strict=True)
    ]
    flat = await _all(futures)
    return [flat[row : row + len(snapshots)] for row in range(0, len(flat), len(snapshots))]


def _masks_alone(form: str, drawing: Drawing | None, snapshot: Snapshot) -> Response:
    """No document says which adapter answered, so a header does."""
    assert isinstance(drawing, str | bytes)
    version = snapshot.version
    return Response(
        drawing, media_type=form, headers={"Lensmount-Adapter": f"{version.name}@{version.version}; {version.digest}"}
    )


async def _all(futures: list[Future[T]]) -> list[T]:
    """The results in order; raises the first error in order."""
    try:
        return [await asyncio.wrap_future(future) for future in futures]
    finally:
        for future in futures:
            future.cancel()  # what is still queued when time is over, the client has gone or a neighbour failed


def _result(
    engine: Engine,
    snapshot: Snapshot,
    answer: Answer,
    drawing: Drawing | None,
    top_k: int,
    request_id: str,
    decode_s: float,
    total_s: float,
    image: ImageRef,
) -> ImagePrediction:
    version = snapshot.version
    segmentation = drawing if isinstance(drawing, Segmentation) else None
    scores = answer.scores.tolist() if segmentation is None else segmentation.shares()
    best = sorted(zip(version.manifest.labels, scores, strict=True), key=lambda pair: -pair[1])[:top_k]
    prediction = ImagePrediction(
        adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest),
        backbone=BackboneInfo(name=engine.backbone.name, fingerprint=engine.backbone.fingerprint),
        predictions=[LabelScore(label=label, score=min(1.0, score)) for label, score in best],
        request_id=request_id,
        timing_ms=Timing(
            queue=_ms(answer.queue_s),
            decode=_ms(decode_s),
            swap=_ms(answer.swap_s),
            forward=_ms(answer.forward_s),
            total=_ms(total_s),
        ),
        image=image,
    )
    if segmentation is None:
        return prediction
    return SegmentedImagePrediction(**dict(prediction), segmentation=segmentation)


def _json(text: str) -> Response:
    """The answer as it is: FastAPI would judge a model of ours once more against the model that it already is."""
    return Response(text, media_type="application/json")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
