"""GET /pools: every pool of images that wait for labels."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.routes.context import Context
from lensmount_service.web.label_schemas import PoolList, PoolSummaryInfo
from lensmount_service.web.openapi import PROBLEMS

router = APIRouter(route_class=GuardedRoute, tags=["labelling"], responses=PROBLEMS)


@router.get("/pools", summary="All pools of images that wait for labels")
async def list_pools(context: Context) -> PoolList:
    """A pool has the name of its dataset; corrections of an adapter's answers are in NAME-feedback."""
    pools = await asyncio.to_thread(context.training.pools.summaries)
    return PoolList(pools=[PoolSummaryInfo.model_validate(pool, from_attributes=True) for pool in pools])
