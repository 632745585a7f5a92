"""GET /ping and POST /invocations: the contract of a container that Amazon SageMaker runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from lensmount_service.access.custom_attributes import HEADER, PATH, attributes_of
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import RequestInvalid
from lensmount_service.routes import health
from lensmount_service.routes.context import Server
from lensmount_service.routes.envelope import gives_masks
from lensmount_service.routes.predict import masks_alone
from lensmount_service.store.catalog import Snapshot
from lensmount_service.twins.one_image import OneImage, computed, told
from lensmount_service.twins.openapi import IMAGE_BODY, INVOCATION_ANSWERS, INVOCATION_PARAMETERS
from lensmount_service.web.masks import FORMS
from lensmount_service.web.negotiation import JSON, negotiate
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.schemas import LabelScore

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
JSON_LINES, CSV = "application/jsonlines", "text/csv"

router = APIRouter(route_class=GuardedRoute, tags=["twins of other servers"], responses=PROBLEMS)


@router.get("/ping", summary="SageMaker: whether invocations are accepted")
async def ping(context: Server) -> Response:
    await health.require_ready(context)
    return Response(status_code=200)


@router.post(
    PATH,
    response_model=list[LabelScore],
    responses={200: {"content": INVOCATION_ANSWERS}},
    openapi_extra={**IMAGE_BODY, **INVOCATION_PARAMETERS},
    summary="SageMaker: label an image",
)
async def invoke(request: Request) -> Response:
    """Post an image as the raw body, or in base64 as `inputs` of JSON, with `top_k` in `parameters`.

    The adapter is in one of the two headers or in the query. `Accept` chooses JSON, JSON lines or CSV, and masks alone
    of a segmentation adapter. The answer's `X-Amzn-SageMaker-Custom-Attributes` say which version answered.
    """
    envelope = Invocation()
    outcomes = await computed(request, adapter_of(request), envelope)
    if outcomes.form != JSON:
        return with_attributes(masks_alone(outcomes), request)
    labels, headers = told(request, outcomes, envelope)
    content = _WRITERS[envelope.media_type]([(each.label, each.score) for each in labels])
    return with_attributes(Response(content, media_type=envelope.media_type, headers=headers), request)


@dataclass(slots=True)
class Invocation(OneImage):
    """The envelope of one invocation. `media_type` is known once its adapter is."""

    media_type: str = JSON

    def form(self, request: Request, snapshots: Sequence[Snapshot]) -> str:
        drawn = [form for form in FORMS if form != JSON] if gives_masks(snapshots[0]) else []
        gives = "masks" if drawn else "labels"
        about = f"{snapshots[0].version.name} gives {gives}"
        self.media_type = negotiate(request.headers.get("accept"), [*_WRITERS, *drawn], about)
        return self.media_type if self.media_type in drawn else JSON


def adapter_of(request: Request) -> str:
    """The adapter that the headers or the query name. Raises RequestInvalid for none, and for several."""
    named = {
        *(value for name, value in attributes_of(request.headers) if name == "adapter"),
        *(value.strip() for value in request.headers.getlist(TARGET_MODEL)),
        *request.query_params.getlist("adapter"),
    } - {""}
    if len(named) != 1:
        raise RequestInvalid(
            f"found {len(named)} adapters in the headers and the query, expected one. Fix: send "
            f"{HEADER}: adapter=NAME, or {TARGET_MODEL}: NAME, or ?adapter=NAME"
        )
    return named.pop()


def with_attributes(response: Response, request: Request) -> Response:
    """The response with the header that SageMaker passes on to its client."""
    adapter, _, digest = response.headers["Lensmount-Adapter"].partition("; ")
    about = {"adapter": adapter, "digest": digest, "request_id": request.state.request_id}
    if decision := response.headers.get("Lensmount-Decision"):
        about["decision"] = decision
    response.headers[HEADER] = ",".join(f"{name}={value}" for name, value in about.items())
    return response


def _json(labels: Sequence[tuple[str, float]]) -> str:
    return json.dumps([{"label": label, "score": score} for label, score in labels], ensure_ascii=False)


def _json_lines(labels: Sequence[tuple[str, float]]) -> str:
    return "".join(f"{json.dumps({'label': label, 'score': score}, ensure_ascii=False)}\n" for label, score in labels)


def _csv(labels: Sequence[tuple[str, float]]) -> str:
    csv.writer(rows := io.StringIO()).writerows(labels)
    return rows.getvalue()


_WRITERS = {JSON: _json, JSON_LINES: _json_lines, CSV: _csv}
