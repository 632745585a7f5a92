"""POST /predict: labels or masks for images, computed by the resident backbone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.engine.engine import Answer
from lensmount_service.engine.fair_pool import USUAL
from lensmount_service.errors import RequestInvalid, Unavailable, Unusable
from lensmount_service.monitoring.traced import note_computed
from lensmount_service.monitoring.usage import Counted
from lensmount_service.rollouts.choice import Keys
from lensmount_service.routes.archives.answers import ArchiveAnswers, ImageAnswers, SourceImage
from lensmount_service.routes.archives.recalled import Recalled
from lensmount_service.routes.charges import charged
from lensmount_service.routes.context import AppContext, TenantContext, caller_of, context_of
from lensmount_service.routes.decoding import Decoding, every, input_limits
from lensmount_service.routes.envelope import Envelope, PlainEnvelope, gives_masks
from lensmount_service.routes.outcomes import (
    ComputedPrediction,
    DecodedInput,
    FailedPrediction,
    Outcomes,
    Result,
    Results,
    Unserved,
    Wanted,
    all_told,
    answered_by,
    in_order,
)
from lensmount_service.routes.snapshots import keys_of, snapshot_of
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import parse_references
from lensmount_service.tracing.span import current, stage
from lensmount_service.web.bodies import Part
from lensmount_service.web.deadline import deadline
from lensmount_service.web.masks import FORMS, read_masks
from lensmount_service.web.negotiation import JSON
from lensmount_service.web.openapi import PROBLEMS, image_body, mask_answers
from lensmount_service.web.problems import code_of, status_of
from lensmount_service.web.schemas import (
    FailedResult,
    Prediction,
    Predictions,
    SegmentedPrediction,
)

TopK = Annotated[int, Query(ge=1, le=10_000, description="The number of labels to return, best first.")]
Priority = Annotated[
    Literal["normal", "low"],
    Query(
        description="low: for archives. These images wait until no others do, and what the trunk gives for them is "
        "kept on disk, so that the next adapter costs its branch alone. An image that cannot be read fails alone, with "
        "207.",
    ),
]


def predict_router(context: AppContext) -> APIRouter:
    """A function, because the default of `timeout` is a setting."""
    router = APIRouter(route_class=GuardedRoute, tags=["predict"])
    predictor = Predictor(context)

    @router.post(
        "/predict",
        response_model=SegmentedPrediction | Prediction | Predictions,
        responses={
            **PROBLEMS,
            200: {"content": mask_answers()},
            207: {"model": Predictions, "description": "Some of several adapters failed: see `error` in `results`."},
        },
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
        top_k: TopK = 10_000,
        decision: Annotated[
            Literal["always", "strict"],
            Query(
                description="always: labels for every image. strict: labels only where `trust.decision` is accept; "
                "otherwise `predictions` is empty and `abstained` says why.",
            ),
        ] = "always",
        priority: Priority = "normal",
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
        one image cannot be read, the whole request is refused, unless its priority is low. If some adapters fail, the
        status is 207.
        """
        wanted = Wanted(adapter, top_k, strict=decision == "strict", timeout_s=timeout_s, low=priority == "low")
        return await predictor.predict(request, wanted)

    return router


class Predictor:
    """`await Predictor(context).predict(request, Wanted("malaria"))` returns the response."""

    def __init__(self, context: AppContext) -> None:
        settings = context.settings
        self._engine = context.engine
        self._metrics = context.metrics
        self._settings = settings
        self._decoders = context.decoders
        self._answered = context.answered
        self._shadowing = context.shadowing
        self._outputs = context.outputs
        self._archive = ArchiveAnswers(context)
        self._decoding = Decoding(context.decoders, input_limits(settings), settings.max_request_pixels)
        self._plain = PlainEnvelope(context)

    async def predict(self, request: Request, wanted: Wanted) -> Response:
        outcomes = await self.compute(request, wanted, self._plain)
        if outcomes.form != JSON:
            return masks_alone(outcomes)
        results = self.told(request, outcomes)
        if len(results) == 1:
            return _json(results[0].model_dump_json(exclude={"image"}))
        failed = any(isinstance(each, FailedResult) for each in results)
        request_id: str = request.state.request_id
        return _json(Predictions(results=results, request_id=request_id).model_dump_json(), 207 if failed else 200)

    async def compute(self, request: Request, wanted: Wanted, envelope: Envelope) -> Outcomes:
        """What became of each image with each adapter, counted. Raises the failure of an adapter that is alone."""
        started = time.perf_counter()
        context = context_of(request)
        with _failures_counted([Counted(self._metrics, "none")]):
            found = await self._resolve(context, wanted.adapter, partial(keys_of, request))
        snapshots = [each for each in found if isinstance(each, Snapshot)]
        asked = [context.counted(each.version.name, each if isinstance(each, Snapshot) else None) for each in found]
        with _failures_counted(asked):
            if not snapshots:
                raise next(each.error for each in found if isinstance(each, Unserved))
            form = envelope.form(request, snapshots)
            if wanted.strict:
                _check_labels(snapshots)
            adapters = [snapshot.adapter for snapshot in snapshots]
            self._engine.check_room(adapters, caller_of(request), self._decoders.waiting, low=wanted.low)
            sources, computed = await self._compute(request, form, snapshots, wanted, envelope)
        total_s = time.perf_counter() - started
        self._metrics.request_seconds.observe(total_s)
        every = in_order(found, sources, computed)
        _count(asked, every, total_s)
        return Outcomes(wanted, form, every, asked, total_s)

    def told(self, request: Request, outcomes: Outcomes) -> list[Result]:
        """The outcomes as the documents of POST /predict, with the decisions counted."""
        request_id: str = request.state.request_id
        results = Results(self._engine.backbone, self._metrics, outcomes.wanted, request_id, outcomes.total_s)
        return results.all(outcomes.every, outcomes.asked)

    async def _resolve(
        self, context: TenantContext, adapter: str, keys: Callable[[], Keys]
    ) -> list[Snapshot | Unserved]:
        """One for each reference. A stored adapter that is broken or quarantined does not fail the others."""
        references = parse_references(adapter, self._settings.max_adapters_per_request)
        found: list[Snapshot | Unserved] = []
        for reference in references:
            try:
                found.append(await snapshot_of(context, reference, keys))
            except Unusable as error:
                if len(references) == 1:
                    raise
                found.append(Unserved(await asyncio.to_thread(context.catalog.version, reference), error))
        return found

    async def _compute(
        self, request: Request, form: str, snapshots: list[Snapshot], wanted: Wanted, envelope: Envelope
    ) -> tuple[list[DecodedInput], list[ComputedPrediction | FailedPrediction]]:
        """Images outer, adapters inner. The time limit starts when the whole body has arrived."""
        context = context_of(request)
        parts = await envelope.images(request, snapshots)
        _check_one(form, parts)
        self._engine.require_fit(len(parts) * len(snapshots))
        expires_at = time.perf_counter() + wanted.timeout_s
        charging = charged(request, parts, len(snapshots), self._settings.max_queue)
        async with deadline(request, wanted.timeout_s), charging:
            await self.prepare(snapshots)
            if wanted.low:
                return await self._from_archive(context, parts, snapshots, expires_at)
            recalled = await Recalled.of(context, self._outputs, parts, snapshots)
            sources = await self.decode(context, parts if recalled is None else recalled.missing, snapshots)
            sources = sources if recalled is None else recalled.sources(sources)
            answers = await self.answers(context, sources, snapshots, expires_at, recalled)
            if len(parts) == 1:
                told = zip(snapshots, answers, strict=True)
                digests = frozenset(snapshot.version.digest for snapshot, each in told if isinstance(each, Answer))
                answered = f"{request.state.identity.tenant} {request.state.request_id}"
                self._answered.keep(answered, parts[0].data, digests)
            return sources, await self._draw(caller_of(request), form, sources, snapshots, answers)

    async def _from_archive(
        self, context: TenantContext, parts: list[Part], snapshots: list[Snapshot], expires_at: float
    ) -> tuple[list[DecodedInput], list[ComputedPrediction | FailedPrediction]]:
        """Images that wait behind all others, each of which may fail alone."""
        images = [SourceImage.of(part) for part in parts]
        told = await self._archive.compute(context, images, snapshots, expires_at)
        if len(told) == 1 and told[0].error is not None:
            raise told[0].error
        answers = [answer for each in told for answer in each.answers]
        failures = [answer for answer in answers if isinstance(answer, Unavailable)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        return [each.source for each in told], await self.drawn(context, JSON, told, snapshots)

    async def drawn(
        self, context: TenantContext, form: str, told: Sequence[ImageAnswers], snapshots: list[Snapshot]
    ) -> list[ComputedPrediction | FailedPrediction]:
        """What became of images of an archive, with their masks: images outer, adapters inner."""
        good = [each for each in told if each.error is None]
        sources, answers = [each.source for each in good], [answer for each in good for answer in each.answers]
        rest = iter(await self._draw(context.caller, form, sources, snapshots, answers))
        return [
            next(rest) if each.error is None else FailedPrediction(each.source, snapshot.version, each.error)
            for each in told
            for snapshot in snapshots
        ]

    async def prepare(self, snapshots: list[Snapshot]) -> None:
        """If an adapter needs a program that is not compiled yet, its request waits for it, and the engine does not."""
        for snapshot in snapshots:
            if not self._engine.runner.ready(snapshot.adapter):
                with stage("prepare", digest=snapshot.adapter.digest):
                    await asyncio.to_thread(self._engine.runner.prepare, snapshot.adapter)

    async def decode(self, context: TenantContext, parts: list[Part], snapshots: list[Snapshot]) -> list[DecodedInput]:
        """Decode each image or volume once and preprocess it once per distinct rule, off the event loop."""
        if not parts:
            return []
        of = (context.identity.key, tuple(snapshot.adapter.digest for snapshot in snapshots))
        with stage("decode", images=len(parts)):
            return await self._decoding.decode(of, parts, {each.adapter.manifest.preprocessing for each in snapshots})

    async def answers(
        self,
        context: TenantContext,
        sources: list[DecodedInput],
        snapshots: list[Snapshot],
        expires_at: float,
        recalled: Recalled | None = None,
    ) -> list[Answer | Unavailable]:
        """The engine's answers: images outer, adapters inner. Raises the first failure if no adapter has an answer."""
        labels = [context.label(snapshot.version.name) for snapshot in snapshots]
        gauges = [self._metrics.inflight.labels(label) for label in labels]
        futures = self._submitted(context, sources, snapshots, expires_at, recalled)
        for gauge in gauges:
            gauge.inc(len(sources))
        try:
            answers = await all_told(futures, [snapshot.title for _ in sources for snapshot in snapshots])
        finally:
            for gauge in gauges:
                gauge.dec(len(sources))
        if (span := current()).recording:
            note_computed(span, labels, snapshots, answers, self._engine.runner)
        failures = [each for each in answers if isinstance(each, Unavailable)]
        if failures and (len(failures) == len(answers) or len(snapshots) == 1):
            raise failures[0]
        if recalled is not None:
            recalled.keep(sources, answers)
        return answers

    def _submitted(
        self,
        context: TenantContext,
        sources: list[DecodedInput],
        snapshots: list[Snapshot],
        expires_at: float,
        recalled: Recalled | None,
    ) -> list[Future[Answer]]:
        if recalled is not None:
            return self._engine.queue(recalled.items(context, sources, expires_at))
        work = [
            (snapshot.adapter, source.prepared.inputs[snapshot.adapter.manifest.preprocessing])
            for source in sources
            for snapshot in snapshots
        ]
        shadows = self._shadowing.of(context.catalog, snapshots) * len(sources)
        caller, tenant = context.identity.key, context.identity.tenant
        names = [snapshot.version.name for snapshot in snapshots] * len(sources)
        return self._engine.submit_many(work, expires_at, caller, tenant=tenant, shadows=shadows, names=names)

    async def _draw(
        self,
        caller: str,
        form: str,
        sources: list[DecodedInput],
        snapshots: list[Snapshot],
        answers: list[Answer | Unavailable],
    ) -> list[ComputedPrediction | FailedPrediction]:
        """Add the masks in this form, drawn off the event loop."""
        pairs = [(source, snapshot) for source in sources for snapshot in snapshots]
        computed: list[ComputedPrediction | FailedPrediction] = [
            FailedPrediction(source, snapshot.version, answer)
            if isinstance(answer, Unavailable)
            else ComputedPrediction(source, snapshot, answer, None)
            for (source, snapshot), answer in zip(pairs, answers, strict=True)
        ]
        if not any(map(gives_masks, snapshots)):
            return computed
        work = [partial(_with_drawing, form, each) for each in computed]
        line = (caller, form, object())
        return await every([self._decoders.submit_for(line, USUAL, each) for each in work])


def _count(asked: Sequence[Counted], every: Sequence[ComputedPrediction | FailedPrediction], seconds: float) -> None:
    """Count the request once for each adapter, with the status that it has for this adapter."""
    for index, counted in enumerate(asked):
        results = every[index :: len(asked)]
        failures = [each for each in results if isinstance(each, FailedPrediction)]
        status, code = (status_of(failures[0].error), failures[0].error.code) if failures else (200, None)
        counted.request(status, len(results) - len(failures), seconds, code)


@contextmanager
def _failures_counted(asked: Sequence[Counted]) -> Iterator[None]:
    """Count a request that fails inside, once for each adapter."""
    try:
        yield
    except Exception as error:
        for counted in asked:
            counted.request(status_of(error), code=code_of(error))
        raise


def _check_labels(snapshots: Sequence[Snapshot]) -> None:
    for snapshot in snapshots:
        if gives_masks(snapshot):
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


def _with_drawing(form: str, computed: ComputedPrediction | FailedPrediction) -> ComputedPrediction | FailedPrediction:
    if isinstance(computed, FailedPrediction):
        return computed
    if not gives_masks(computed.snapshot):
        return computed
    size = computed.source.prepared.size
    assert size is not None  # a backbone of volumes gives no maps
    masks = read_masks(computed.snapshot.adapter.manifest, computed.answer.scores, size)
    return replace(computed, drawing=FORMS[form](masks))


def masks_alone(outcomes: Outcomes) -> Response:
    """Masks have no room for the adapter's name, so a header says which adapter answered."""
    (only,) = outcomes.every
    assert isinstance(only, ComputedPrediction)  # the only adapter's failure is the request's
    assert isinstance(only.drawing, str | bytes)
    return Response(only.drawing, media_type=outcomes.form, headers=answered_by(only.snapshot.version))


def _json(text: str, status: int = 200) -> Response:
    """Send the text unchanged. FastAPI would validate one of our models again against its own type."""
    return Response(text, status, media_type="application/json")
