"""POST /feedback: a person corrects an adapter's answer; image and label wait in the pool NAME-feedback."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from lensmount_adapters.suggestion import did_you_mean
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import Forbidden, NotFound, RequestInvalid, VersionDeleted
from lensmount_service.pools.rows import Answered
from lensmount_service.routes.charges import charge_pixels
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.labelling.answers import offer
from lensmount_service.routes.labelling.labels import read_images
from lensmount_service.store.keys import PUBLIC
from lensmount_service.store.references import Reference, parse_references, require_name
from lensmount_service.store.registry import Version
from lensmount_service.web.bodies import Part
from lensmount_service.web.label_schemas import Feedback, Who
from lensmount_service.web.openapi import PROBLEMS, image_body
from lensmount_service.web.preconditions import Expected
from lensmount_service.web.schemas import AdapterRef

SUFFIX = "-feedback"

router = APIRouter(route_class=GuardedRoute, tags=["labelling"], responses=PROBLEMS)


@router.post("/feedback", status_code=201, openapi_extra=image_body(), summary="Correct an answer")
async def give_feedback(
    context: Context,
    request: Request,
    expected: Expected,
    adapter: Annotated[str, Query(max_length=2048, description="The adapter that answered", examples=["malaria@2"])],
    label: Annotated[str, Query(max_length=256, description="The right label: one of the adapter's")],
    who: Who,
    answer_to: Annotated[
        str | None,
        Query(alias="request_id", pattern=r"^[0-9a-f]{32}$", description="The `request_id` of the answer"),
    ] = None,
) -> Feedback:
    """Post the image as the raw body, or as a multipart part named `file`.

    The server keeps images only with LENSMOUNT_FEEDBACK=on. It then remembers the images of its latest answers to
    single images for LENSMOUNT_FEEDBACK_KEPT_S seconds, and until then a `request_id` without a body is enough.
    `POST /datasets/NAME-feedback/versions` makes a version to train on. If-Match takes the ETag of that pool.

    An alias means the version that gave the answer `request_id`, if that is remembered, and otherwise its stable one.
    """
    check_allowed(context)
    (reference,) = parse_references(adapter, 1)
    version = (await asyncio.to_thread(context.catalog.resolve, reference)).version
    if answer_to is not None and reference.alias is not None:
        version = await asyncio.to_thread(_answering, context, answer_to, version)
    name = pool_of(version, label)
    parts = await read_images(context, request)
    if len(parts) != 1:
        raise RequestInvalid(
            f"found {len(parts)} images, expected one. Fix: send each image in a request of its own",
            code="single_image_required",
        )
    data = parts[0].data
    if not data and answer_to is not None:
        data = _remembered(context, answer_to, version)
        await charge_pixels(request, [Part(data, None)])
    answered = Answered(f"{version.name}@{version.version} {version.digest}", answer_to)
    work = partial(context.training.pools.correct, name, data, label, who, answered, expected)
    image = await context.thumbnails.run(work, caller=context.caller)
    offer(context, version, image.digest, data, label)
    return Feedback(
        dataset=name,
        digest=image.digest,
        label=label,
        who=who,
        adapter=AdapterRef(name=version.name, version=version.version, digest=version.digest),
        request_id=request.state.request_id,
    )


def _answering(context: TenantContext, request_id: str, present: Version) -> Version:
    """The version that gave the answer which is corrected: the alias may have had another one then, or a canary.

    It is the present one if the answer is not remembered.
    """
    found = context.answered.find(f"{context.identity.tenant} {request_id}")
    if found is None or present.digest in found.adapters:
        return present
    for digest in sorted(found.adapters):
        with contextlib.suppress(NotFound, VersionDeleted):
            answered = context.catalog.version(Reference(present.name, digest=digest))
            return replace(answered, alias=present.alias, rollout=present.rollout)
    return present


def _remembered(context: TenantContext, request_id: str, version: Version) -> bytes:
    """The image of an answer. Raises Forbidden (`image_not_kept`), or RequestInvalid for another adapter's answer."""
    found = context.answered.find(f"{context.identity.tenant} {request_id}")
    if found is None:
        raise Forbidden(
            f"found no image of the answer {request_id}: this server remembers images of requests with one image for "
            f"{context.answered.keep_s:g} s, and at most {context.answered.max_bytes} bytes of them. "
            "Fix: send the image with the request_id",
            code="image_not_kept",
        )
    if version.digest not in found.adapters:
        raise RequestInvalid(
            f"found {version.name}@{version.version}, which did not give the answer {request_id}. "
            "Fix: name the adapter that answered, with its version: NAME@VERSION"
        )
    return found.data


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
