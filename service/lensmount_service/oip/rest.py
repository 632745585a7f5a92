"""/v2: the Open Inference Protocol over HTTP, for clients such as tritonclient."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from lensmount_client._version import __version__
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.oip.inference import Asked, Inference
from lensmount_service.oip.models import config_of, metadata_of, reference_of, require_ready
from lensmount_service.oip.openapi import INFER_BODY, REPOSITORY_BODY, VERSION_PARAMETER
from lensmount_service.oip.repository import RepositoryRequest, index_of, load, unload
from lensmount_service.oip.requests import HEADER_LENGTH, InferRequest, header_length_of, read_request
from lensmount_service.routes import health
from lensmount_service.routes.context import Context, Server, TenantContext, context_of
from lensmount_service.routes.imports import SMALLER
from lensmount_service.routes.snapshots import keys_of
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference
from lensmount_service.web.bodies import off_loop
from lensmount_service.web.compression import ENCODINGS, pack, read_unpacked
from lensmount_service.web.deadline import deadline
from lensmount_service.web.json_body import parse_form
from lensmount_service.web.negotiation import accepted_encoding
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import Expected

EXTENSIONS = [
    *("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters", "statistics")
]
BINARY = "application/octet-stream"
_AS_REPOSITORY = "send the JSON of the model repository extension; see docs/oip.md"

router = APIRouter(route_class=GuardedRoute, prefix="/v2", tags=["open inference protocol"], responses=PROBLEMS)


async def _inference_of(request: Request) -> Inference:  # async, because FastAPI runs plain functions in a thread
    inference: Inference = request.app.state.inference
    return inference


async def _model_of(request: Request, name: str) -> Reference:
    return reference_of(name, request.path_params.get("version", ""))


Inferences = Annotated[Inference, Depends(_inference_of)]
Model = Annotated[Reference, Depends(_model_of)]


@router.get("", summary="The server and its extensions")
async def server_metadata() -> dict[str, Any]:
    return {"name": "lensmount", "version": __version__, "extensions": EXTENSIONS}


@router.get("/health/live", summary="Whether the process responds")
async def live(context: Server) -> dict[str, bool]:
    await health.live(context)
    return {"live": True}


@router.get("/health/ready", summary="Whether inferences are accepted")
async def ready(context: Server, request: Request) -> dict[str, bool]:
    await health.ready(context, request)
    return {"ready": True}


@router.get("/models/stats", summary="The statistics of all models")
async def all_statistics(context: Context, inference: Inferences) -> dict[str, Any]:
    return {"model_stats": await inference.shown(context, None)}


@router.get("/models/{name}", summary="The inputs and outputs of an adapter")
@router.get("/models/{name}/versions/{version}", summary="The same of a version", openapi_extra=VERSION_PARAMETER)
async def model_metadata(context: Context, model: Model) -> dict[str, Any]:
    return await metadata_of(context, model)


@router.get("/models/{name}/config", summary="The model configuration of an adapter")
@router.get(
    "/models/{name}/versions/{version}/config", summary="The same of a version", openapi_extra=VERSION_PARAMETER
)
async def model_config(context: Context, model: Model) -> dict[str, Any]:
    return await config_of(context, model)


@router.get("/models/{name}/ready", summary="Whether an adapter can be computed")
@router.get("/models/{name}/versions/{version}/ready", summary="The same of a version", openapi_extra=VERSION_PARAMETER)
async def model_ready(context: Context, model: Model) -> dict[str, Any]:
    await require_ready(context, model)
    return {"name": model.name, "ready": True}


@router.get("/models/{name}/stats", summary="The statistics of an adapter")
@router.get("/models/{name}/versions/{version}/stats", summary="The same of a version", openapi_extra=VERSION_PARAMETER)
async def model_statistics(context: Context, inference: Inferences, model: Model) -> dict[str, Any]:
    return {"model_stats": await inference.shown(context, model)}


@router.post("/models/{name}/infer", summary="Label images", openapi_extra=INFER_BODY)
@router.post(
    "/models/{name}/versions/{version}/infer",
    summary="The same with a version",
    openapi_extra={**INFER_BODY, **VERSION_PARAMETER},
)
async def infer(request: Request, inference: Inferences, model: Model) -> Response:
    """JSON, or JSON and the bytes of tensors behind it, or one image alone with `Inference-Header-Content-Length: 0`.

    The body may be packed with gzip or deflate, and so is the answer if `Accept-Encoding` asks for it.
    """
    seen = context_of(request)
    snapshot = await inference.resolve(seen, model, partial(keys_of, request))
    with inference.counted(seen, snapshot):
        body = await read_unpacked(request, seen.settings.max_request_bytes)
        asked = await _asked(inference, seen, snapshot, body, header_length_of(request))
        timeout_s = inference.timeout_s(asked.request.parameters)
        async with deadline(request, timeout_s):
            answer = await inference.infer(seen, asked, request.state.request_id, timeout_s)
    content, header_length = answer.encode()
    headers = {} if header_length is None else {HEADER_LENGTH: str(header_length)}
    encoding = accepted_encoding(request.headers.get("accept-encoding"), ENCODINGS)
    if encoding is not None:
        headers["Content-Encoding"] = encoding
        content = await off_loop(len(content), lambda: pack(content, encoding))
    return Response(content, media_type="application/json" if header_length is None else BINARY, headers=headers)


@router.post("/repository/index", summary="All models and their states", openapi_extra=REPOSITORY_BODY)
async def repository_index(context: Context, request: Request) -> list[dict[str, str]]:
    """With `{"ready": true}`, only those that can be computed."""
    asked = await _read_repository_request(request, context.settings.max_json_bytes)
    return await asyncio.to_thread(lambda: index_of(context, only_ready=asked.ready))


@router.post(
    "/repository/models/{name}/load", summary="Upload an adapter, or take it back", openapi_extra=REPOSITORY_BODY
)
async def repository_load(context: Context, request: Request, name: str, expected: Expected) -> Response:
    """A parameter `file:...` has an adapter file in base64, which becomes the latest version.

    Without one, an adapter that was unloaded is back as it was.
    """
    most = context.settings.max_adapter_bytes // 3 * 4 + context.settings.max_json_bytes
    asked = await _read_repository_request(request, most)
    await load(context, name, asked.parameters, expected)
    return Response(status_code=200)


@router.post("/repository/models/{name}/unload", summary="Delete an adapter", openapi_extra=REPOSITORY_BODY)
async def repository_unload(context: Context, request: Request, name: str, expected: Expected) -> Response:
    """As DELETE /adapters/{name} does: it can be loaded again for the time that the server's operator states."""
    await _read_repository_request(request, context.settings.max_json_bytes)
    await unload(context, name, expected)
    return Response(status_code=200)


async def _asked(
    inference: Inference, seen: TenantContext, snapshot: Snapshot, body: bytes, header_length: int | None
) -> Asked:
    """The request of a body; a large one is read in a thread."""
    most = 2 * seen.settings.max_image_bytes  # of JSON: an image in base64 fits

    def read() -> Asked:
        asked: InferRequest = read_request(body, header_length, most)
        return inference.asked(snapshot, asked)

    return await off_loop(len(body), read)


async def _read_repository_request(request: Request, max_bytes: int) -> RepositoryRequest:
    """The body, which may be empty. Raises RequestError, RequestInvalid or BodyTooLarge."""
    body = await read_unpacked(request, max_bytes, SMALLER)
    return parse_form(body or b"{}", RepositoryRequest, _AS_REPOSITORY)
