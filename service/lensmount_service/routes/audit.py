"""GET /audit: who did what. Administrators see their tenant, and operators all."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from lensmount_service.access.audit import AuditLog
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.routes.caller import Caller
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.token_schemas import AuditPage

DAY_S = 86_400.0

router = APIRouter(route_class=GuardedRoute, tags=["access"], responses=PROBLEMS)


@router.get("/audit", summary="Who did what")
async def show_audit(
    caller: Caller,
    request: Request,
    since: Annotated[
        float | None,
        Query(ge=0, le=1e11, description="Seconds since the epoch; by default a day ago, or no limit with `after`"),
    ] = None,
    actor: Annotated[str | None, Query(max_length=128)] = None,
    action: Annotated[str | None, Query(max_length=256, examples=["PUT /adapters/{name}"])] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,16}:[0-9]{1,12}$", description="`next` or `end` of a page")
    ] = None,
) -> AuditPage:
    """Every write and every refusal of an identity or a scope, oldest first. A record appears within a second.

    A page may have fewer records than `limit`, even none, and still a `next`. Its `end` stays valid until the log's
    oldest files go (`audit_gone`), so that an export can resume days later.
    """
    audit: AuditLog = request.app.state.audit
    wanted = {"tenant": None if caller.is_operator else caller.tenant, "actor": actor, "action": action}
    fields = {key: value for key, value in wanted.items() if value is not None}
    if since is None:
        since = 0.0 if after is not None else time.time() - DAY_S
    page = await asyncio.to_thread(partial(audit.page, since, after, limit, fields))
    return AuditPage(
        records=page.records,  # type: ignore[arg-type]  # pydantic reads the records
        next=page.after,
        end=page.end,
    )
