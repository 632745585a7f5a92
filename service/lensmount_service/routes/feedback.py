"""POST /feedback: a person corrects an adapter's answer; image and label wait in the pool NAME-feedback."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from lensmount_adapters.suggestion import did_you_mean
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import Forbidden, RequestInvalid
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.labels import read_images
from lensmount_service.store.keys import PUBLIC
from lensmount_service.store.pools import Answered
from lensmount_service.store.references import parse_references, require_name
from lensmount_service.store.registry import Version
from lensmount_service.web.label_schemas import Feedback, Who
from lensmount_service.web.openapi import PROBLEMS, image_body
from lensmount_service.web.schemas import AdapterRef

SUFFIX = "-feedback"

router = APIRouter(route_class=GuardedRoute, tags=["labelling"], responses=PROBLEMS)


@router.post("/feedback", status_code=201, openapi_extra=image_body(), summary="Correct an answer")
async def give_feedback(
    context: Context,
    request: Request,
    adapter: Annotated[str, Query(max_length=2048, description="The adapter that answered", examples=["malaria@2"])],
    label: Annotated[str, Query(max_length=256, description="The right label: one of the adapter's")],
    who: Who,
    answer_to: Annotated[
        str | None,
        Query(alias="request_id", pattern=r"^[0-9a-f]{32}$", description="The `request_id` of the answer"),
    ] = None,
) -> Feedback:
    """Post the image as the raw body, or as a multipart part named `file`.

    The server keeps images only with LENSMOUNT_FEEDBACK=on, and never those of predictions. So a `request_id` alone is
    refused: it is recorded next to the image. `POST /datasets/NAME-feedback/versions` makes a version to train on.
    """
    check_allowed(context)
    (reference,) = parse_references(adapter, 1)
    snapshot = await asyncio.to_thread(context.catalog.resolve, reference)
    version = snapshot.version
    name = pool_of(version, label)
    parts = await read_images(context, request)
    if len(parts) != 1:
        raise RequestInvalid(
            f"found {len(parts)} images, expected one. Fix: send each image in a request of its own",
            code="single_image_required",
        )
    if not parts[0].data and answer_to is not None:
        raise Forbidden(
            "found a request_id without an image, and this server keeps no images of predictions. "
            "Fix: send the image with it",
            code="image_not_kept",
        )
    answered = Answered(f"{version.name}@{version.version} {version.digest}", answer_to)
    work = partial(context.training.pools.correct, name, parts[0].data, label, who, answered)
    image = await context.thumbnails.run(work)
    return Feedback(
        dataset=name,
        digest=image.digest,
        label=label,
        who=who,
        adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest),
        request_id=request.state.request_id,
    )


def check_allowed(context: TenantContext) -> None:
    if context.settings.feedback == "off":
        raise Forbidden(
            "this server keeps no feedback. Fix: ask its operator to set LENSMOUNT_FEEDBACK=on", code="feedback_off"
        )


def pool_of(version: Version, label: str) -> str:
    """The name of the adapter's pool. Raises RequestInvalid if the adapter lacks the label."""
    name = require_name(f"{version.name.removeprefix(f'{PUBLIC}/')}{SUFFIX}", "dataset name")
    labels = version.manifest.labels
    if label not in labels:
        meant = did_you_mean(label, labels)
        raise RequestInvalid(
            f"found the label {label[:80]!r}, expected one of {', '.join(labels[:10])}.{meant} "
            "Fix: choose one of them; POST /datasets/{name}/labels takes labels that the adapter lacks"
        )
    return name
