"""/datasets/{name}/review and /items: find likely wrong labels, look at the images, and correct or exclude them."""

from __future__ import annotations

import asyncio
import io
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from lensmount_adapters.data.edits import Edits
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.groups.group_search import search_groups
from lensmount_adapters.inputs.images import ImageLimits, decode_image
from lensmount_adapters.patterns import compile_pattern
from lensmount_adapters.quality.review import check_size
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.review.queue import ReviewOrder, ReviewStatus
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.datasets import VersionNumber, admitted, published
from lensmount_service.store.datasets import Dataset
from lensmount_service.web.json_body import read_json
from lensmount_service.web.openapi import PROBLEMS, edits_body, file_answer
from lensmount_service.web.pixels import stated_pixels
from lensmount_service.web.preconditions import Expected, ExpectedAlone
from lensmount_service.web.schemas import DatasetEdits, DatasetInfo, ReviewInfo

MAX_EDITS_BYTES = 16 * 2**20
MAX_SIDE = 1024  # pixels of a shown image
_AS_EDITS = 'send JSON such as {"relabel": {"cat/1.png": "dog"}, "exclude": ["cat/2.png"]}'

GroupExpression = Annotated[
    str | None,
    Query(
        max_length=512,
        description="A regular expression that finds the patient, slide or source in the name of each image whose "
        "group the dataset does not state, as for a job",
    ),
]

router = APIRouter(route_class=GuardedRoute, prefix="/datasets", tags=["datasets"], responses=PROBLEMS)


@router.post("/{name}/review", status_code=202, response_model=ReviewInfo, summary="Review a dataset")
async def start_review(
    context: Context,
    name: str,
    response: Response,
    expected: ExpectedAlone,
    version: VersionNumber = None,
    group_regex: GroupExpression = None,
) -> ReviewInfo:
    """Computes in the background: one pass of the backbone over all images. A result is kept with the version.

    Each `group_regex` has a result of its own. A label is checked against images of other groups, so without groups the
    images of one patient speak for each other; a note then says which groups the names suggest.
    """
    dataset = await asyncio.to_thread(context.training.datasets.get, name, version)
    expected.require(dataset.digest)
    check_size(dataset.images)
    if group_regex is not None:
        await context.searches.run(partial(_check_groups, context, dataset, group_regex), caller=context.caller)
    status = await asyncio.to_thread(context.reviews.ask, _order(context, dataset, group_regex))
    response.status_code = 200 if status.state == "done" else 202
    return _info(dataset, status)


@router.get("/{name}/review", summary="How far the review of a dataset is, and its result")
async def get_review(
    context: Context, name: str, version: VersionNumber = None, group_regex: GroupExpression = None
) -> ReviewInfo:
    dataset = await asyncio.to_thread(context.training.datasets.get, name, version)
    return _info(dataset, await asyncio.to_thread(context.reviews.status, _order(context, dataset, group_regex)))


@router.patch(
    "/{name}/items",
    status_code=201,
    responses={200: {"model": DatasetInfo, "description": "The latest version already has this content."}},
    openapi_extra=edits_body(),
    summary="Relabel or exclude images",
)
async def edit_items(
    context: Context,
    name: str,
    request: Request,
    response: Response,
    expected: Expected,
    version: VersionNumber = None,
) -> DatasetInfo:
    """Makes a new version of `version` (by default of the latest), which stays as it is. A refusal changes nothing.

    If-Match takes the ETag of the latest version.
    """
    edits = _edits(await read_json(request, DatasetEdits, MAX_EDITS_BYTES, _AS_EDITS))
    store = context.training.datasets
    return published(context, *await admitted(context, partial(store.edit, name, edits, version, expected)), response)


@router.get(
    "/{name}/items/image",
    response_class=Response,
    responses=file_answer("image/png"),
    summary="One image of a dataset, as a small PNG",
)
async def get_image(
    context: Context,
    name: str,
    path: Annotated[str, Query(max_length=1024)],
    version: VersionNumber = None,
    side: Annotated[int, Query(ge=16, le=MAX_SIDE)] = 128,
) -> Response:
    """`path` is one of the dataset's. The image is upright and has at most `side` pixels on its longer side."""
    work = partial(_thumbnail, context, name, version, path, side)
    data = await context.thumbnails.run(work, caller=context.caller)
    headers = {"Cache-Control": "private, max-age=86400"} if version is not None else {}
    return Response(data, media_type="image/png", headers=headers)


def _thumbnail(context: TenantContext, name: str, version: int | None, path: str, side: int) -> bytes:
    store, settings = context.training.datasets, context.settings
    data = store.image(store.get(name, version), path)
    context.queues.charge(stated_pixels(data))
    image = decode_image(data, ImageLimits(settings.max_image_bytes, settings.max_pixels))
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _check_groups(context: TenantContext, dataset: Dataset, group_regex: str) -> None:
    """Raises DatasetError unless the expression finds a group for each image without one, in a bounded time."""
    compile_pattern(group_regex, DatasetError, "group_regex")
    files = context.training.datasets.listed(dataset).files
    search_groups(group_regex, [file.path for file in files if file.group is None])


def _order(context: TenantContext, dataset: Dataset, group_regex: str | None) -> ReviewOrder:
    settings = context.settings
    return ReviewOrder(
        digest=dataset.digest,
        archive=context.training.datasets.path(dataset),
        backbone=settings.backbone,
        weights=settings.weights,
        fingerprint=context.engine.backbone.fingerprint,
        max_image_bytes=settings.max_image_bytes,
        max_pixels=settings.max_pixels,
        tenant=context.identity.tenant,
        group_regex=group_regex,
    )


def _edits(edits: DatasetEdits) -> Edits:
    if not edits.relabel and not edits.exclude:
        raise DatasetError(
            "found no changes, expected some in relabel or exclude. Fix: name the images to relabel or to exclude"
        )
    return Edits(edits.relabel, tuple(edits.exclude))


def _info(dataset: Dataset, status: ReviewStatus) -> ReviewInfo:
    return ReviewInfo(
        name=dataset.name,
        version=dataset.version,
        digest=dataset.digest,
        state=status.state,
        phase=status.phase,
        done=status.done,
        total=status.total,
        review=dict(status.review) if status.review is not None else None,
        error=status.error,
    )
