"""Each application hands its own parts to its handlers."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from lensmount_service.access.identity import LOOPBACK
from lensmount_service.routes.context import AppContext, Context, Training

NOTHING = cast(Any, None)


def app_with(backbone: str) -> FastAPI:
    app = FastAPI()
    app.state.context = SimpleNamespace(seen_by=lambda identity: SimpleNamespace(seen=(backbone, identity.actor)))

    @app.middleware("http")
    async def identify(request: Request, go_on: Any) -> Any:
        request.state.identity = LOOPBACK
        return await go_on(request)

    @app.get("/seen")
    async def seen(context: Context) -> list[str]:
        return list(cast(Any, context).seen)

    return app


def test_two_applications_in_one_process_have_their_own_contexts() -> None:
    first, second = (TestClient(app_with(name)) for name in ("resnet10t", "clip"))
    assert first.get("/seen").json() == ["resnet10t", "loopback"]
    assert second.get("/seen").json() == ["clip", "loopback"]


def test_a_context_cannot_be_changed() -> None:
    context = AppContext(*[NOTHING] * sum(each.init for each in dataclasses.fields(AppContext)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.engine = NOTHING  # type: ignore[misc]  # that is the point


def test_each_server_is_told_to_stop_by_itself() -> None:
    first, second = Training(*[NOTHING] * 6), Training(*[NOTHING] * 6)
    first.stopping.set()
    assert not second.stopping.is_set()
