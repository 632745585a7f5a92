"""The way of one inference, whatever carries it: through the queue and the batches of /predict, at the same cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_service.access.quotas import Meter
from lensmount_service.engine.engine import Answer
from lensmount_service.engine.fair_pool import USUAL
from lensmount_service.errors import RequestInvalid, Unavailable
from lensmount_service.monitoring.usage import Counted
from lensmount_service.oip.answers import InferAnswer
from lensmount_service.oip.inputs import EncodedImages, Given, read_inputs
from lensmount_service.oip.models import numbers_of
from lensmount_service.oip.outputs import MASKS, Scored, require_outputs, tensors_of
from lensmount_service.oip.requests import AskedOutput, InferRequest
from lensmount_service.oip.statistics import Spent, Statistics
from lensmount_service.oip.tensors import Parameter
from lensmount_service.rollouts.choice import Keys
from lensmount_service.routes.charges import charged_to
from lensmount_service.routes.context import AppContext, TenantContext
from lensmount_service.routes.outcomes import DecodedInput
from lensmount_service.routes.predict import Predictor
from lensmount_service.routes.snapshots import snapshot_of
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference
from lensmount_service.web.judgement import judged, promised_score
from lensmount_service.web.masks import as_png, read_masks
from lensmount_service.web.problems import code_of, status_of

SECOND = 1_000_000  # of the parameter `timeout`, in microseconds


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A model and a request for it, after everything that can be checked without reading an image."""

    snapshot: Snapshot
    request: InferRequest
    outputs: list[AskedOutput]
    images: Given


class Inference:
    """`await inference.infer(seen, inference.asked(snapshot, request), request_id)`; owned by the event loop."""

    def __init__(self, context: AppContext, meter: Meter) -> None:
        self.context = context
        self.meter = meter
        self.statistics = Statistics()
        self._predictor = Predictor(context)

    async def resolve(self, seen: TenantContext, reference: Reference, keys: Callable[[], Keys]) -> Snapshot:
        """The adapter that answers, if there is room for a request. Raises what /predict raises."""
        try:
            snapshot = await snapshot_of(seen, reference, keys)
        except Exception as error:
            seen.metrics.requests.labels("none", str(status_of(error))).inc()
            raise
        with self.counted(seen, snapshot):
            self.context.engine.check_room([snapshot.adapter], seen.identity.key, seen.decoders.waiting)
        return snapshot

    @contextmanager
    def counted(self, seen: TenantContext, snapshot: Snapshot) -> Iterator[None]:
        """Count a request that fails inside."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            seen.counted(snapshot.version.name, snapshot).request(status_of(error), code=code_of(error))
            self.statistics.failed(_key(seen, snapshot), time.perf_counter() - started)
            raise

    async def shown(self, seen: TenantContext, model: Reference | None) -> list[dict[str, Any]]:
        """The statistics of each version of a model, or of all models that the tenant sees."""
        numbers = await numbers_of(seen, model)
        return [self.statistics.shown((seen.identity.tenant, name, number)) for name, number in numbers]

    def asked(self, snapshot: Snapshot, request: InferRequest) -> Asked:
        """Raises RequestInvalid or BodyTooLarge."""
        manifest = snapshot.adapter.manifest
        outputs = require_outputs(request.outputs, manifest, all_binary=request.all_binary)
        images = read_inputs(request.inputs, manifest.preprocessing, self.context.settings.max_files)
        self.context.engine.require_fit(len(images))
        return Asked(snapshot, request, outputs, images)

    def timeout_s(self, parameters: Mapping[str, Parameter]) -> float:
        """The seconds for a request: its parameter `timeout`, in microseconds, or the server's default."""
        asked = parameters.get("timeout")
        if asked is None:
            return self.context.settings.request_timeout_s
        if type(asked) is not int or not 0 < asked <= MAX_REQUEST_TIMEOUT_S * SECOND:
            raise RequestInvalid(
                f"found no such time in the parameter `timeout`, expected microseconds above 0 and at most "
                f"{MAX_REQUEST_TIMEOUT_S * SECOND:.0f}. Fix: leave it out, or ask for a time in this range"
            )
        return asked / SECOND

    async def infer(self, seen: TenantContext, asked: Asked, request_id: str, timeout_s: float) -> InferAnswer:
        """Compute the answer. The caller ends it after `timeout_s`; images that still wait then are not computed."""
        started = time.perf_counter()
        snapshot, images = asked.snapshot, asked.images
        max_queue = self.context.settings.max_queue
        async with charged_to(self.meter, seen.identity, len(images), images.pixels, max_queue):
            await self._predictor.prepare([snapshot])
            sources = await images.prepared(self._predictor, seen, snapshot)
            decoded = time.perf_counter()
            answers = await self._answers(seen, sources, snapshot, started + timeout_s)
            computed = time.perf_counter()
            counted = seen.counted(snapshot.version.name, snapshot)
            scored = await self._scored(seen, snapshot, sources, answers, asked.outputs, counted)
        if isinstance(images, EncodedImages) and len(images) == 1:
            answered = f"{seen.identity.tenant} {request_id}"
            seen.answered.keep(answered, images.parts[0].data, frozenset({snapshot.version.digest}))
        outputs = tensors_of(asked.outputs, snapshot.adapter.manifest, scored)
        ended = time.perf_counter()
        seen.metrics.request_seconds.observe(ended - started)
        counted.request(200, len(answers), ended - started)
        self.statistics.succeeded(
            _key(seen, snapshot), answers, Spent(ended - started, decoded - started, ended - computed)
        )
        version = snapshot.version
        parameters = self._parameters(snapshot, request_id)
        return InferAnswer(version.name, str(version.version), asked.request.id, parameters, outputs, asked.outputs)

    async def _answers(
        self, seen: TenantContext, sources: list[DecodedInput], snapshot: Snapshot, expires_at: float
    ) -> list[Answer]:
        found = await self._predictor.answers(seen, sources, [snapshot], expires_at)
        answers = [each for each in found if isinstance(each, Answer)]
        if len(answers) < len(found):  # of one adapter, the first failure is the request's, and it was raised
            raise next(each for each in found if isinstance(each, Unavailable))
        return answers

    async def _scored(
        self,
        seen: TenantContext,
        snapshot: Snapshot,
        sources: Sequence[DecodedInput],
        answers: Sequence[Answer],
        asked: Sequence[AskedOutput],
        counted: Counted,
    ) -> list[Scored]:
        manifest = snapshot.adapter.manifest
        if isinstance(manifest.head, SegmentationHead):
            with_png = any(output.name == MASKS for output in asked)
            line = (seen.identity.key, (snapshot.adapter.digest,), object())
            drawn = [partial(_drawn, snapshot, *each, with_png) for each in zip(sources, answers, strict=True)]
            work = [seen.decoders.submit_for(line, USUAL, each) for each in drawn]
            return [await asyncio.wrap_future(each) for each in work]
        return [self._judged(snapshot, answer, counted, len(answers)) for answer in answers]

    def _judged(self, snapshot: Snapshot, answer: Answer, counted: Counted, images: int) -> Scored:
        scores = answer.scores.tolist()
        judgement = judged(snapshot, scores, answer.pooled)
        label = snapshot.version.manifest.labels[scores.index(max(scores))]
        counted.image(label, judgement, promised_score(snapshot.version), images)
        return Scored([min(1.0, score) for score in scores], judgement)

    def _parameters(self, snapshot: Snapshot, request_id: str) -> dict[str, Parameter]:
        """Which bytes answered: the protocol's room for what a server adds."""
        parameters: dict[str, Parameter] = {
            "digest": snapshot.version.digest,
            "backbone": self.context.engine.backbone.fingerprint,
            "request_id": request_id,
        }
        return parameters if snapshot.instead_of is None else {**parameters, "instead_of": str(snapshot.instead_of)}


def _drawn(snapshot: Snapshot, source: DecodedInput, answer: Answer, with_png: bool) -> Scored:
    """The share of the image that each label covers, and the masks as a PNG."""
    size: Any = source.prepared.size  # a backbone of volumes gives no maps
    masks = read_masks(snapshot.adapter.manifest, answer.scores, size)
    shares = [int(mask.sum()) / (size[0] * size[1]) for mask in masks.pixels]
    return Scored(shares, None, as_png(masks) if with_png else None)


def _key(seen: TenantContext, snapshot: Snapshot) -> tuple[str, str, int]:
    return seen.identity.tenant, snapshot.version.name, snapshot.version.version
