"""/datasets/{name}/unlabelled, /labels and /versions: images that wait, what people say about them, a version of both.

routes/labelling/next_images.py chooses which of the images a person labels next.
"""

from __future__ import annotations

import asyncio
import io
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from PIL import Image

from lensmount_adapters.errors import ImageError
from lensmount_adapters.inputs.images import ImageLimits, decode_image
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import ItemsRefused, NotFound, RequestInvalid
from lensmount_service.pools.rows import CheckedImage, Decided, PoolImage, PoolLabel
from lensmount_service.routes.charges import charge_pixels
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.datasets import admitted, published
from lensmount_service.routes.labelling.answers import offer_again
from lensmount_service.store.datasets import Dataset
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import Reference, require_name
from lensmount_service.web.bodies import Part, is_multipart, read_multipart, read_raw
from lensmount_service.web.json_body import read_json
from lensmount_service.web.label_schemas import (
    DIGEST,
    GivenLabels,
    ImagesAdded,
    LabelInfo,
    LabelList,
    LabelsAdded,
    PoolInfo,
    Published,
    UnlabelledImage,
    Who,
)
from lensmount_service.web.openapi import PROBLEMS, file_answer, image_body, labels_body
from lensmount_service.web.pixels import stated_pixels
from lensmount_service.web.preconditions import Expected, ExpectedAlone

MAX_LABELS_BYTES = 2**20
MAX_SIDE = 1024  # pixels of a shown image
MAX_SHOWN = 1000  # disputed images in one answer
_AS_LABELS = 'send JSON such as {"who": "reader1", "labels": {"sha256:...": "Parasitized"}}'

router = APIRouter(route_class=GuardedRoute, prefix="/datasets", tags=["labelling"], responses=PROBLEMS)


@router.post("/{name}/unlabelled", status_code=201, openapi_extra=image_body(), summary="Add images without labels")
async def add_images(
    context: Context,
    name: str,
    request: Request,
    who: Who,
    expected: Expected,
    group: Annotated[
        str | None, Query(max_length=256, description="Patient, slide or source, the same for all images sent")
    ] = None,
) -> ImagesAdded:
    """Post one image as the raw body, or several as multipart parts named `file`. The dataset need not exist yet.

    All images of a request are added, or none. If some of several cannot be read, `errors` says what is wrong with
    each of them.
    """
    require_name(name, "dataset name")
    images = await _checked(context, await read_images(context, request))
    add = partial(context.training.pools.add_all, name, images, who, group, expected)
    added = await context.thumbnails.run(add, caller=context.caller)
    return ImagesAdded(images=[_image(image) for image, _ in added], added=sum(new for _, new in added))


@router.get("/{name}/unlabelled", summary="How much waits in a pool")
async def get_pool(context: Context, name: str, response: Response) -> PoolInfo:
    """The header ETag changes with every image and every label; a write to the pool with If-Match compares it."""
    state = await asyncio.to_thread(context.training.pools.state, require_name(name, "dataset name"))
    response.headers["ETag"] = f'"{state.tag}"'
    return PoolInfo(name=name, images=state.images, labels=state.labels, size_bytes=state.size_bytes)


@router.delete("/{name}/unlabelled", status_code=204, summary="Delete a pool: its images, labels and leases")
async def delete_pool(context: Context, name: str, expected: ExpectedAlone) -> None:
    """Versions that were made of the labels stay."""
    await asyncio.to_thread(context.training.pools.delete, require_name(name, "dataset name"), expected)


@router.get(
    "/{name}/unlabelled/{digest}",
    response_class=Response,
    responses=file_answer("image/png"),
    summary="One image of a pool, as a small PNG",
)
async def get_unlabelled(
    context: Context,
    name: str,
    digest: Annotated[str, Path(pattern=DIGEST)],
    side: Annotated[int, Query(ge=16, le=MAX_SIDE)] = 512,
) -> Response:
    """The image is upright and has at most `side` pixels on its longer side."""
    data = await context.thumbnails.run(partial(_thumbnail, context, name, digest, side), caller=context.caller)
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.post("/{name}/labels", status_code=201, openapi_extra=labels_body(), summary="Add labels")
async def add_labels(context: Context, name: str, request: Request, expected: Expected) -> LabelsAdded:
    """Labels are only ever added: a person's later label for an image replaces the earlier one when a version is made.

    The labels are durable once this responds. A refusal adds none. If-Match takes the ETag of the pool. A label of an
    image that feedback brought into the pool counts for the rollout of the version that had answered.
    """
    require_name(name, "dataset name")
    given = await read_json(request, GivenLabels, MAX_LABELS_BYTES, _AS_LABELS)
    made = await asyncio.to_thread(context.training.pools.label, name, given.labels, given.who, expected)
    await asyncio.to_thread(offer_again, context, name, made)
    return LabelsAdded(labels=[_label(each) for each in made])


@router.get("/{name}/labels", summary="Who said what about which image")
async def list_labels(
    context: Context,
    name: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only labels with larger numbers")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> LabelList:
    require_name(name, "dataset name")
    labels = await asyncio.to_thread(context.training.pools.labels, name, after, limit)
    return LabelList(labels=[_label(each) for each in labels])


@router.post(
    "/{name}/versions",
    status_code=201,
    responses={200: {"model": Published, "description": "The latest version already has this content."}},
    summary="Make a version of the labelled images",
)
async def publish(
    context: Context,
    name: str,
    response: Response,
    expected: ExpectedAlone,
    base: Annotated[
        str | None,
        Query(
            max_length=128,
            description="NAME or NAME@VERSION, whose images the version has as well. Default: the latest version of "
            "this dataset, if there is one.",
        ),
    ] = None,
) -> Published:
    """Each image has the label that most people gave it. `POST /jobs` trains on the version, with the gate.

    If-Match takes the ETag of the dataset.
    """
    require_name(name, "dataset name")
    reference = None if base is None else Reference.parse(base)
    if reference is not None and (reference.alias or reference.digest):
        raise RequestInvalid(
            f"found the base {str(base)[:80]!r}, expected NAME or NAME@VERSION", code="invalid_reference"
        )
    found: list[Decided] = []
    dataset, created = await admitted(context, partial(_publish, context, name, reference, found, expected))
    info = published(context, dataset, created, response)
    (agreed,) = found
    return Published(**info.model_dump(), labelled=len(agreed.labels), disputed=list(agreed.disputed[:MAX_SHOWN]))


def _publish(
    context: TenantContext, name: str, base: Reference | None, found: list[Decided], expected: Precondition
) -> tuple[Dataset, bool]:
    datasets, pools = context.training.datasets, context.training.pools
    start: Dataset | None
    if base is not None:
        start = datasets.get(base.name, base.version)
    else:
        try:
            start = datasets.get(name)
        except NotFound:
            start = None
    dataset, created, agreed = pools.publish(name, datasets, start, expected)
    found.append(agreed)
    return dataset, created


async def _checked(context: TenantContext, parts: list[Part]) -> list[CheckedImage]:
    """The images, each in a turn of its own. Raises ImageError for a single one, or ItemsRefused for several."""
    images, refused = [], []
    for index, part in enumerate(parts):
        try:
            images.append(
                await context.thumbnails.run(partial(context.training.pools.checked, part.data), caller=context.caller)
            )
        except ImageError as error:
            if len(parts) == 1:
                raise
            refused.append((index, error))
    if refused:
        raise ItemsRefused("images", len(parts), refused)
    return images


async def read_images(context: TenantContext, request: Request) -> list[Part]:
    settings = context.settings
    if not is_multipart(request):
        part = Part(await read_raw(request, settings.max_image_bytes), None)
        await charge_pixels(request, [part])
        return [part]
    parts, fields = await read_multipart(request, settings.max_request_bytes, settings.max_files)
    if fields:
        raise RequestInvalid(f"found the field {min(fields)[:40]!r}, expected only parts named `file`")
    await charge_pixels(request, parts)
    return parts


def _thumbnail(context: TenantContext, name: str, digest: str, side: int) -> bytes:
    settings = context.settings
    data = context.training.pools.read(name, digest)
    context.queues.charge(stated_pixels(data))
    image = decode_image(data, ImageLimits(settings.max_image_bytes, settings.max_pixels))
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _image(image: PoolImage) -> UnlabelledImage:
    return UnlabelledImage.model_validate(image, from_attributes=True)


def _label(label: PoolLabel) -> LabelInfo:
    return LabelInfo.model_validate(label, from_attributes=True)
