"""POST /datasets/{name}/draft: a first draft, which answers until a trained adapter replaces it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from lensmount_adapters.data.dataset import Listed
from lensmount_adapters.data.dataset_archive import MANIFEST
from lensmount_adapters.draft.choice import Known, chosen, most_of_a_class
from lensmount_adapters.draft.draft import Basis, Draft, is_draft, make_draft
from lensmount_adapters.errors import DatasetError
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import NotADraft, NotFound, PreconditionFailed, VersionDeleted
from lensmount_service.routes.context import AppContext, Context, TenantContext
from lensmount_service.routes.datasets import VersionNumber
from lensmount_service.routes.drafts.features import DatasetFeatures
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.store.datasets import Dataset
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import require_name
from lensmount_service.store.registry import Version
from lensmount_service.web.deadline import deadline
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import ExpectedAlone
from lensmount_service.web.schemas import AdapterRef

ROUNDS = 5  # tries to publish, if another version appears during each of them


class DraftInfo(BaseModel):
    """What a draft was made of, and how good it is."""

    images: int = Field(description="That the head was solved on", examples=[40])
    left_out: int = Field(description="Images of the dataset that were not used: too many, copies, or kept for tests")
    most_of_a_class: int = Field(description="How many images of a class are used at most", examples=[200])
    classes: dict[str, int] = Field(examples=[{"Parasitized": 20, "Uninfected": 20}])
    balanced_accuracy: float | None = Field(
        description="Of images that the head was solved without; null if a class has a single group", examples=[0.82]
    )
    judged_by: Literal["cross-validation"] = "cross-validation"
    seconds: float = Field(description="From the request to the published version", examples=[1.4])


class DraftMade(AdapterRef):
    """The version that was published. It answers until a trained adapter replaces it."""

    draft: DraftInfo


def draft_router(app: AppContext) -> APIRouter:
    """A function, because all requests share the features that are kept."""
    router = APIRouter(route_class=GuardedRoute, prefix="/datasets", tags=["datasets"], responses=PROBLEMS)
    drafts = Drafts(app)

    @router.post(
        "/{name}/draft",
        status_code=201,
        responses={200: {"model": DraftMade, "description": "The latest version already has these bytes."}},
        summary="Make a first draft of an adapter",
    )
    async def make(
        context: Context,
        request: Request,
        name: str,
        response: Response,
        expected: ExpectedAlone,
        adapter: Annotated[str, Query(max_length=128, description="The name of the adapter", examples=["malaria"])],
        version: VersionNumber = None,
    ) -> DraftMade:
        """A head is solved on the frozen network's features of the images, and published as a version of `adapter`.

        It takes seconds, needs 5 images in each class and says of itself that it is a draft: a training job replaces
        it. At most 200 images of a class are used, and 1,000 together; images that the dataset keeps for tests are not.
        A trained adapter is not replaced by a draft. If-Match takes the ETag of the adapter.
        """
        require_name(adapter)
        async with deadline(request, MAX_REQUEST_TIMEOUT_S):
            made, created, info = await drafts.make(context, name, version, adapter, expected)
        response.status_code = 201 if created else 200
        response.headers["ETag"] = f'"{made.digest}"'
        response.headers["Location"] = f"/adapters/{adapter}/versions/{made.version}"
        return DraftMade(name=made.name, version=made.version, digest=made.digest, draft=info)

    return router


@dataclass(frozen=True, slots=True)
class Material:
    """What a draft is made of: the classes, the images that are used, and how many there are."""

    classes: tuple[str, ...]
    images: Sequence[Known]
    total: int
    listed: Listed


class Drafts:
    """`await Drafts(app).make(context, "cells", None, "malaria", ANY)`."""

    def __init__(self, app: AppContext) -> None:
        self._features = DatasetFeatures(app)
        self._basis = Basis(app.engine.backbone, app.settings.weights, self._features.rule)

    async def make(
        self, context: TenantContext, dataset: str, number: int | None, name: str, expected: Precondition = ANY
    ) -> tuple[Version, bool, DraftInfo]:
        """The version, whether it is new, and what it is made of."""
        started = time.perf_counter()
        if self._basis.backbone.dense:
            raise DatasetError(
                f"found the backbone {self._basis.backbone.name}, which returns maps, expected one that returns a "
                "vector per image. Fix: start a training job instead"
            )
        await asyncio.to_thread(_require_replaceable, context, name, expected)  # before the work
        context.catalog.require_own_signature()
        material = await context.choices.run(partial(_material, context, dataset, number), caller=context.caller)
        features = await self._features.of(context, material.images, material.listed.source.read)
        solve = partial(make_draft, name, material.classes, material.images, features, self._basis)
        draft = await context.choices.run(solve, caller=context.caller)
        version, created = await asyncio.to_thread(_publish, context, name, draft, expected)
        info = DraftInfo(
            images=len(material.images),
            left_out=material.total - len(material.images),
            most_of_a_class=most_of_a_class(len(material.classes)),
            classes=draft.counts,
            balanced_accuracy=draft.balanced_accuracy,
            seconds=round(time.perf_counter() - started, 3),
        )
        return version, created, info


def _material(context: TenantContext, name: str, number: int | None) -> Material:
    """The images of a version of the dataset, without those that it keeps for tests."""
    store = context.training.datasets
    dataset: Dataset = store.get(name, number)
    listed = store.listed(dataset)
    rows = (json.loads(line) for line in listed.source.read(MANIFEST).splitlines())
    digests = {row["path"]: row["sha256"] for row in rows}
    index = {label: place for place, label in enumerate(listed.classes)}
    known = [
        Known(file.path, index[file.label], file.group or file.path, digests[file.path])
        for file in listed.files
        if file.split != "test"
    ]
    return Material(listed.classes, chosen(known, listed.classes), len(listed.files), listed)


def _publish(context: TenantContext, name: str, draft: Draft, expected: Precondition) -> tuple[Version, bool]:
    """Publish unless a trained version is there by now."""
    for left in reversed(range(ROUNDS)):
        present = _require_replaceable(context, name, expected)
        meanwhile = (
            Precondition(if_none_match=frozenset("*")) if present is None else Precondition(frozenset({present}))
        )
        try:
            signature = context.catalog.own_signature(draft.data)
            return context.catalog.upload(name, draft.data, signature=signature, expected=meanwhile)
        except PreconditionFailed:
            if not left:
                raise
    raise AssertionError


def _require_replaceable(context: TenantContext, name: str, expected: Precondition) -> str | None:
    """The digest of the latest version, None if there is none.

    Raises PreconditionFailed, or NotADraft if that version is no draft.
    """
    try:
        latest = context.catalog.entry(name).latest
    except (NotFound, VersionDeleted):
        expected.require(None)
        return None
    expected.require(latest.digest)
    if not is_draft(latest.manifest):
        raise NotADraft(
            f"found version {latest.version} of {name!r}, which was not drafted, expected a new name or a draft. "
            "Fix: choose another name for the adapter, or start a training job, which compares the versions"
        )
    return latest.digest
