"""Each application hands its own parts to its handlers."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lensmount_service.routes.context import AppContext, Context, Training

NOTHING = cast(Any, None)


def app_with(context: object) -> FastAPI:
    app = FastAPI()
    app.state.context = context

    @app.get("/backbone")
    async def backbone(context: Context) -> str:
        return cast(Any, context).backbone  # type: ignore[no-any-return]  # a stand-in with one attribute

    return app


def test_two_applications_in_one_process_have_their_own_contexts() -> None:
    first, second = (TestClient(app_with(SimpleNamespace(backbone=name))) for name in ("resnet10t", "clip"))
    assert (first.get("/backbone").json(), second.get("/backbone").json()) == ("resnet10t", "clip")


def test_a_context_cannot_be_changed() -> None:
    context = AppContext(*[NOTHING] * len(dataclasses.fields(AppContext)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.engine = NOTHING  # type: ignore[misc]  # that is the point


def test_each_server_is_told_to_stop_by_itself() -> None:
    first, second = Training(*[NOTHING] * 6), Training(*[NOTHING] * 6)
    first.stopping.set()
    assert not second.stopping.is_set()
