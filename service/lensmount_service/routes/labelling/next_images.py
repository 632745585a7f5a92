"""POST /datasets/{name}/next: the images that a person labels next, reserved so that nobody else gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Response

from lensmount_adapters.active.strategies import Pool, choose
from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import RequestInvalid, Unavailable
from lensmount_service.routes.context import AppContext, Context, TenantContext
from lensmount_service.routes.labelling.pool_scores import PoolScores, Scored
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import parse_references, require_name
from lensmount_service.web.label_schemas import NextImage, NextImages, Who
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import ExpectedAlone
from lensmount_service.web.schemas import AdapterRef, LabelScore

CANDIDATES = 10_000  # unlabelled images among which is chosen, in the order in which they came
WAIT_S = 1.0  # for the adapter's scores, before the answer is that they are still computed
TRIES = 3  # while other people take the same images
MOST = 200  # images in one answer

StrategyName = Literal["margin", "entropy", "diverse", "typical", "staged"]


def next_router(app: AppContext) -> APIRouter:
    """A function, because all requests share one chooser and its scores."""
    router = APIRouter(route_class=GuardedRoute, prefix="/datasets", tags=["labelling"], responses=PROBLEMS)
    chooser = Chooser(app)

    @router.post(
        "/{name}/next",
        responses={202: {"model": NextImages, "description": "The adapter still computes the images. Ask again."}},
        summary="Which images to label next",
    )
    async def next_images(
        context: Context, name: str, response: Response, asked: AskedFor, expected: ExpectedAlone
    ) -> NextImages:
        """A person who asks again gets the images that they still hold first, and holds them for longer.

        If-Match takes the ETag of the pool, which reserving does not change.
        """
        answer = await chooser.choose(context, require_name(name, "dataset name"), asked, expected)
        if answer.state == "scoring":
            response.status_code = 202
            response.headers["Retry-After"] = "1"
        return answer

    return router


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a request."""

    adapter: str
    who: str
    n: int
    strategy: StrategyName
    lease_s: float


async def _asked(  # async, because FastAPI runs plain functions in a thread
    who: Who,
    adapter: Annotated[str, Query(max_length=2048, description="One reference", examples=["malaria"])],
    n: Annotated[int, Query(ge=1, le=MOST, description="How many images")] = 10,
    strategy: Annotated[
        StrategyName,
        Query(
            description="`margin`, `entropy`: what the adapter is least sure of. `diverse`: that, without images "
            "that are alike. `typical`: the densest regions without a label, for the first labels. `staged`: "
            "`typical` for the first 30 labels of the pool, then `diverse`."
        ),
    ] = "staged",
    lease_s: Annotated[float, Query(ge=1, le=86_400, description="How long nobody else gets them")] = 900.0,
) -> Asked:
    return Asked(adapter, who, n, strategy, lease_s)


AskedFor = Annotated[Asked, Depends(_asked)]


class Chooser:
    """`await Chooser(app).choose(context, "cells", Asked("malaria", "reader1", 10, "margin", 900.0))`."""

    def __init__(self, app: AppContext) -> None:
        self._scores = PoolScores(app)

    async def choose(self, context: TenantContext, name: str, asked: Asked, expected: Precondition = ANY) -> NextImages:
        """The next images, or how far the adapter's scores are."""
        (reference,) = parse_references(asked.adapter, 1)
        snapshot = await asyncio.to_thread(context.catalog.resolve, reference)
        _check_adapter(snapshot)
        pools = context.training.pools
        own, free, others = await asyncio.to_thread(pools.free, name, asked.who, expected)
        wanted = [*own, *free[:CANDIDATES]]
        missing = await self._scores.compute(context.queues, snapshot, pools.key(name), wanted, WAIT_S)
        known = self._scores.known(snapshot, wanted)
        version = snapshot.version
        answer = NextImages(
            name=name,
            adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest),
            strategy=asked.strategy,
            state="scoring" if missing else "done",
            done=len(wanted) - missing,
            total=len(free),
            unfamiliar=sum(each.unfamiliar for each in known.values()),
            lease_s=asked.lease_s,
            items=[],
        )
        if missing:
            return answer
        labelled = list(self._scores.known(snapshot, others).values())
        unheld = {digest: scored for digest, scored in known.items() if digest not in own}
        chosen = await self._reserve(context, name, asked, own, unheld, labelled)
        items = [_item(digest, known[digest], version.manifest.labels) for digest in chosen if digest in known]
        return answer.model_copy(update={"items": items})

    async def _reserve(
        self,
        context: TenantContext,
        name: str,
        asked: Asked,
        own: Sequence[str],
        free: Mapping[str, Scored],
        labelled: list[Scored],
    ) -> list[str]:
        """The digests that the person now holds: their own first. What somebody else took meanwhile is replaced."""
        pools = context.training.pools
        chosen = await asyncio.to_thread(pools.lease, name, own[: asked.n], asked.who, asked.lease_s)
        left = {digest: scored for digest, scored in free.items() if not scored.unfamiliar}
        for seed in range(TRIES):
            if len(chosen) >= asked.n or not left:
                break
            choice = partial(_chosen, asked.strategy, left, labelled, asked.n - len(chosen), seed)
            wanted = await context.choices.run(choice, caller=context.caller)
            chosen += await asyncio.to_thread(pools.lease, name, wanted, asked.who, asked.lease_s)
            for digest in wanted:
                labelled.append(left.pop(digest))
        return chosen


def _chosen(
    strategy: StrategyName, left: Mapping[str, Scored], labelled: Sequence[Scored], n: int, seed: int
) -> list[str]:
    digests = list(left)
    features = _features([left[digest] for digest in digests])
    probabilities = np.stack([left[digest].scores for digest in digests])
    pool = Pool(features, probabilities, _features(labelled) if labelled else features[:0])
    if strategy not in ("margin", "entropy") and not features.shape[1]:
        raise RequestInvalid(
            f"strategy: found {strategy}, which compares features, and an adapter whose features this server cannot "
            "give. Fix: strategy=margin"
        )
    try:
        return [digests[index] for index in choose(strategy, pool, n, seed)]
    except ModuleNotFoundError as error:  # clusters need scikit-learn
        raise Unavailable(
            f"strategy: {strategy} needs the package {error.name} on the server. "
            'Fix: pip install "lensmount[train]" there, or strategy=margin',
            code="store_unavailable",
        ) from error


def _features(images: Sequence[Scored]) -> np.ndarray:
    """[N, D]; D is 0 if an image has no features."""
    rows = [image.features for image in images]
    if not rows or any(row is None for row in rows):
        return np.empty((len(rows), 0), np.float32)
    return np.stack([row for row in rows if row is not None]).astype(np.float32)


def _check_adapter(snapshot: Snapshot) -> None:
    manifest = snapshot.adapter.manifest
    if isinstance(manifest.head, SegmentationHead) or isinstance(manifest.preprocessing, VolumePreprocessing):
        raise RequestInvalid(
            f"found {manifest.name}, which gives masks or reads volumes, expected an adapter that gives labels to "
            "images. Fix: choose another adapter"
        )


def _item(digest: str, scored: Scored, labels: Sequence[str]) -> NextImage:
    best = sorted(zip(labels, scored.scores.tolist(), strict=True), key=lambda pair: -pair[1])
    return NextImage(digest=digest, predictions=[LabelScore(label=label, score=min(1.0, s)) for label, s in best])
