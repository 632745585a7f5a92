"""POST /explain: which parts of an image speak for a label, as a grid of values or drawn over the image."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal
from urllib.parse import quote
from weakref import WeakSet

import numpy as np
import structlog
from fastapi import APIRouter, Query, Request, Response
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.explain.explainer import Explainer, Explanation, cam_of, check_explainable, passes_of
from lensmount_adapters.explain.overlay import overlay
from lensmount_adapters.inputs.images import ImageLimits, decode_image, shown_box
from lensmount_adapters.inputs.prepare import InputLimits, prepare
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.runners.runner import GivesMaps
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import DeadlineExceeded, RequestInvalid, ServiceError, Unavailable, Unusable
from lensmount_service.routes.charges import charged
from lensmount_service.routes.context import AppContext, context_of
from lensmount_service.routes.snapshots import keys_of, snapshot_of
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import parse_references
from lensmount_service.tenants.queues import CallerQueues
from lensmount_service.tracing.span import stage
from lensmount_service.web import schemas
from lensmount_service.web.bodies import Part, is_multipart, read_multipart, read_raw
from lensmount_service.web.deadline import deadline
from lensmount_service.web.negotiation import JSON, PNG, negotiate
from lensmount_service.web.openapi import PROBLEMS, image_body, overlay_answer
from lensmount_service.web.pixels import stated_pixels
from lensmount_service.web.problems import status_of

log = structlog.get_logger(__name__)

MethodName = Literal["cam", "layercam", "occlusion"]


def explain_router(context: AppContext) -> APIRouter:
    """A function, because the default of `timeout` is a setting."""
    router = APIRouter(route_class=GuardedRoute, tags=["predict"])
    explanations = Explanations(context)

    @router.post(
        "/explain",
        response_model=schemas.Explanation,
        responses={**PROBLEMS, 200: {"content": overlay_answer()}},
        openapi_extra=image_body(),
        summary="Explain an answer",
    )
    async def explain(
        request: Request,
        adapter: Annotated[
            str,
            Query(
                description="One reference: `name`, `name@version`, `name@sha256:...`, `name:alias`.",
                examples=["malaria", "malaria@2"],
                max_length=2048,
            ),
        ],
        label: Annotated[
            str | None,
            Query(description="One of the adapter's labels. Default: the one with the best score.", max_length=256),
        ] = None,
        method: Annotated[
            MethodName,
            Query(
                description="`cam`: the share of each cell of the last map in the logit, in one pass. `layercam`: a "
                "finer grid, by a backward pass. `occlusion`: how far the score falls when a part of the image is "
                "covered; it works with every backbone, in 50 passes. Each pass counts the image's pixels once."
            ),
        ] = "cam",
        timeout_s: Annotated[
            float,
            Query(
                alias="timeout",
                gt=0,
                le=MAX_REQUEST_TIMEOUT_S,
                description="Seconds from the complete body to the response. After that the response is 504.",
            ),
        ] = context.settings.request_timeout_s,
    ) -> Response:
        """Post one image as the raw body, or as a multipart part named `file`.

        With `Accept: image/png`, the response is the image with the values over it, from clear through yellow to red;
        the header `Lensmount-Explanation` has the method, grid, score and label.

        A `cam` is computed like a prediction. The others give way to predictions: they are computed one after the
        other, and only a few may wait.
        """
        return await explanations.explain(request, Question(adapter, label, method), timeout_s)

    return router


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks of one image."""

    adapter: str
    label: str | None
    method: MethodName


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    image: Tensor  # preprocessed, [3, height, width]
    size: tuple[int, int]  # width and height as posted
    seconds: float


class Explanations:
    """`await Explanations(context).explain(request, Question("malaria", None, "cam"), 60.0)` returns the response."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._limits = ImageLimits(context.settings.max_image_bytes, context.settings.max_pixels)
        self._explainer = Explainer(context.engine.backbone)
        self._with_maps: WeakSet[Adapter] = WeakSet()  # those that the runner prepared

    async def explain(self, request: Request, question: Question, timeout_s: float) -> Response:
        counter = self._context.metrics.explanations
        try:
            response = await self._explain(request, question, timeout_s)
        except Exception as error:
            counter.labels(question.method, str(status_of(error))).inc()
            raise
        counter.labels(question.method, "200").inc()
        return response

    async def _explain(self, request: Request, question: Question, timeout_s: float) -> Response:
        started = time.perf_counter()
        snapshot = await self._resolve(request, question.adapter)
        manifest = snapshot.adapter.manifest
        check_explainable(manifest, question.label)
        rule = manifest.preprocessing
        assert isinstance(rule, Preprocessing)  # adapters for volumes were refused
        form = negotiate(request.headers.get("accept"), [JSON, PNG], "an explanation is a grid or an image")
        data = await self._read(request)
        expires_at = time.perf_counter() + timeout_s
        room, queues = self._context.settings.max_queue, context_of(request).queues
        passes = passes_of(question.method)
        async with deadline(request, timeout_s), charged(request, [Part(data, None)], 1, room, passes):
            with stage("decode", images=1):
                pixels = await asyncio.wrap_future(queues.decode(partial(stated_pixels, data), 0))
                decoded = await asyncio.wrap_future(queues.decode(lambda: self._decode(data, rule), pixels))
            began = time.perf_counter()
            with stage("explain", digest=snapshot.version.digest):
                found = await self._compute(queues, snapshot, decoded.image, question, expires_at)
            explain_s = time.perf_counter() - began
            if form == PNG:
                drawn = queues.decode(lambda: overlay(decode_image(data, self._limits), found.values, rule))
                png = await asyncio.wrap_future(drawn)
                return Response(png, media_type=PNG, headers=_headers(snapshot, found))
        timing = schemas.ExplanationTiming(
            decode=_ms(decoded.seconds), explain=_ms(explain_s), total=_ms(time.perf_counter() - started)
        )
        answer = self._answer(request, snapshot, found, decoded.size, timing)
        return Response(answer.model_dump_json(), media_type=JSON)

    async def _resolve(self, request: Request, adapter: str) -> Snapshot:
        (reference,) = parse_references(adapter, 1)
        return await snapshot_of(context_of(request), reference, partial(keys_of, request))

    async def _read(self, request: Request) -> bytes:
        settings = self._context.settings
        if not is_multipart(request):
            return await read_raw(request, settings.max_image_bytes)
        parts, fields = await read_multipart(request, settings.max_request_bytes, settings.max_files)
        if fields:
            raise RequestInvalid(f"found the field {min(fields)[:40]!r}, expected only a part named `file`")
        if len(parts) > 1:
            raise RequestInvalid(
                f"found {len(parts)} images, expected one. Fix: send each image in a request of its own",
                code="single_image_required",
            )
        return parts[0].data

    def _decode(self, data: bytes, rule: Preprocessing) -> _Decoded:
        started = time.perf_counter()
        prepared = prepare(data, {rule}, InputLimits(image=self._limits))
        assert prepared.size is not None  # it is an image
        return _Decoded(prepared.inputs[rule], prepared.size, time.perf_counter() - started)

    async def _compute(
        self, queues: CallerQueues, snapshot: Snapshot, image: Tensor, question: Question, expires_at: float
    ) -> Explanation:
        """A class activation map is computed like a prediction, if the engine's runner gives maps."""
        if question.method == "cam" and await self._prepare_maps(snapshot.adapter):
            found = await self._cam(queues, snapshot.adapter, image, question.label, expires_at)
        else:
            found = await self._in_turn(queues.caller, snapshot, image, question)
        if not (np.isfinite(found.values).all() and np.isfinite(found.score)):
            raise Unusable(
                f"{snapshot.title}: the explanation of this image is not finite. "
                "Fix: check the adapter, or serve in float32",
                code="output_not_finite",
            )
        return found

    async def _prepare_maps(self, adapter: Adapter) -> bool:
        """Whether the engine can compute the adapter's maps. The first request waits until its program is made."""
        runner = self._context.engine.runner
        if adapter in self._with_maps or not isinstance(runner, GivesMaps):
            return adapter in self._with_maps
        prepared = await asyncio.to_thread(runner.prepare_maps, adapter)
        if prepared:
            self._with_maps.add(adapter)
        return prepared

    async def _cam(
        self, queues: CallerQueues, adapter: Adapter, image: Tensor, label: str | None, expires_at: float
    ) -> Explanation:
        queued = queues.compute_maps(adapter, image, expires_at)
        try:
            answer = await asyncio.wrap_future(queued)
        finally:
            queued.cancel()  # if it is still queued after a timeout or a disconnect
        assert answer.maps is not None  # the engine was asked for them
        if isinstance(adapter.head, nn.Linear):  # one small product, which costs less than another thread
            return cam_of(adapter, answer.maps, answer.scores, label)
        drawn = queues.decode(partial(cam_of, adapter, answer.maps, answer.scores, label))
        return await asyncio.wrap_future(drawn)

    async def _in_turn(self, caller: str, snapshot: Snapshot, image: Tensor, question: Question) -> Explanation:
        """One explanation at a time, one of each caller. The work stops soon after the request is given up."""
        given_up = threading.Event()

        def proceed() -> None:
            if given_up.is_set():
                raise DeadlineExceeded("the request was given up before the explanation was complete")

        def work() -> Explanation:
            proceed()
            try:
                return self._explainer.explain(snapshot.adapter, image, question.method, question.label, proceed)
            except (LensmountError, ServiceError):
                raise
            except Exception as error:  # a network may raise anything
                log.exception("explanation failed", adapter=snapshot.version.name, method=question.method)
                raise Unavailable(
                    f"the explanation failed ({type(error).__name__}). Fix: try again, or another method",
                    code="forward_failed",
                    retry_after_s=1,
                ) from error

        try:
            cost = passes_of(question.method)
            return await self._context.explanations.run(work, caller=caller, cost=cost)
        finally:
            given_up.set()

    def _answer(
        self,
        request: Request,
        snapshot: Snapshot,
        found: Explanation,
        size: tuple[int, int],
        timing: schemas.ExplanationTiming,
    ) -> schemas.Explanation:
        version, backbone = snapshot.version, self._context.engine.backbone
        rule = snapshot.adapter.manifest.preprocessing
        assert isinstance(rule, Preprocessing)
        rows, columns = found.values.shape
        return schemas.Explanation(
            adapter=schemas.AdapterRef(name=version.name, version=version.version, digest=version.digest),
            backbone=schemas.BackboneInfo(name=backbone.name, fingerprint=backbone.fingerprint),
            label=found.label,
            score=min(1.0, found.score),
            method=found.method,
            grid=(rows, columns),
            values=found.values.tolist(),
            size=(size[1], size[0]),
            box=shown_box(size, rule),
            request_id=request.state.request_id,
            timing_ms=timing,
        )


def _headers(snapshot: Snapshot, found: Explanation) -> dict[str, str]:
    """An image has no room for the adapter's name and the grid, so headers have them. A header is ASCII."""
    version, (rows, columns) = snapshot.version, found.values.shape
    about = f"method={found.method}; grid={rows}x{columns}; score={found.score:.4f}; label={quote(found.label)}"
    return {
        "Lensmount-Adapter": f"{version.name}@{version.version}; {version.digest}",
        "Lensmount-Explanation": about,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
