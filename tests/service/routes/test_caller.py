from __future__ import annotations

import asyncio
from typing import Any, get_args

from starlette.requests import Request

from lensmount_service.access.identity import FIRST_ADMIN
from lensmount_service.routes.caller import Caller


def test_the_caller_is_the_identity_of_the_request() -> None:
    _, depends = get_args(Caller)
    scope: dict[str, Any] = {"type": "http", "state": {"identity": FIRST_ADMIN}}

    assert asyncio.run(depends.dependency(Request(scope))) is FIRST_ADMIN
