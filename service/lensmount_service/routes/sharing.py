"""/adapters/{name}/shared and /datasets/{name}/shared: what a tenant shares, all others read as public/NAME."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.routes.context import Context
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import ExpectedAlone
from lensmount_service.web.schemas import SharedAs

PublicName = Annotated[
    str | None, Query(alias="as", max_length=80, description="The public name. Default: the own name")
]

router = APIRouter(route_class=GuardedRoute, tags=["sharing"], responses=PROBLEMS)


@router.put("/adapters/{name}/shared", summary="Share an adapter with all tenants")
async def share_adapter(
    context: Context, name: str, expected: ExpectedAlone, public_name: PublicName = None
) -> SharedAs:
    """All tenants then read it as public/NAME, with its later versions. A public name belongs to who takes it first."""
    share = await asyncio.to_thread(context.catalog.share, name, public_name, expected)
    return SharedAs(name=name, public_name=share.public_name)


@router.delete("/adapters/{name}/shared", status_code=204, summary="Share an adapter no longer")
async def unshare_adapter(context: Context, name: str, expected: ExpectedAlone) -> None:
    await asyncio.to_thread(context.catalog.unshare, name, expected)


@router.put("/datasets/{name}/shared", summary="Share a dataset with all tenants")
async def share_dataset(
    context: Context, name: str, expected: ExpectedAlone, public_name: PublicName = None
) -> SharedAs:
    """All tenants then read and train on it as public/NAME, with its later versions. Its pool is not shared."""
    share = await asyncio.to_thread(context.training.datasets.share, name, public_name, expected)
    return SharedAs(name=name, public_name=share.public_name)


@router.delete("/datasets/{name}/shared", status_code=204, summary="Share a dataset no longer")
async def unshare_dataset(context: Context, name: str, expected: ExpectedAlone) -> None:
    """A job that already uses it continues."""
    await asyncio.to_thread(context.training.datasets.unshare, name, expected)
