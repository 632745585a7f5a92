"""One image for one adapter, as Hugging Face carries it: the raw body, or JSON with the image in base64."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from lensmount_service.errors import RequestInvalid
from lensmount_service.routes.context import AppContext
from lensmount_service.routes.envelope import max_input_bytes
from lensmount_service.routes.outcomes import ComputedPrediction, Outcomes, Wanted, answered_by
from lensmount_service.routes.predict import Predictor
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import parse_references
from lensmount_service.web.bodies import Part, is_multipart, off_loop, read_raw
from lensmount_service.web.json_body import is_json, parse_form
from lensmount_service.web.negotiation import JSON
from lensmount_service.web.schemas import ImagePrediction, LabelScore, SegmentedImagePrediction

_AS_DOCUMENT = (
    'send {"inputs": IMAGE, "parameters": {"top_k": 3}} with the image in base64, or the image itself as the body'
)


class Parameters(BaseModel):
    """Those of Hugging Face's image classification."""

    model_config = ConfigDict(extra="forbid", strict=True)
    top_k: Annotated[int, Field(ge=1)] | None = None
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None


class Document(BaseModel):
    """The body as JSON. Other members, such as `options`, are for Hugging Face's own servers and are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    inputs: str
    parameters: Parameters | None = None


@dataclass(slots=True)
class OneImage:
    """The envelope of one request. `top_k` is known once the body is read; None stands for all labels."""

    top_k: int | None = None

    def form(self, request: Request, snapshots: Sequence[Snapshot]) -> str:
        return JSON

    async def images(self, request: Request, snapshots: Sequence[Snapshot]) -> list[Part]:
        """JSON is told by its Content-Type, or by its first character, with which no image begins."""
        context = _context_of(request)
        most = 2 * context.settings.max_image_bytes  # of JSON: an image in base64 fits
        if is_multipart(request):
            raise RequestInvalid(
                "found multipart/form-data, expected the image itself as the body, or JSON. "
                "Fix: with curl, --data-binary @FILE"
            )
        stated = is_json(request)
        body = await read_raw(request, most if stated else max_input_bytes(context))
        if stated or (body[:64].lstrip().startswith(b"{") and len(body) <= most):
            return [Part(await off_loop(len(body), lambda: self._read(body, snapshots[0])), None)]
        return [Part(body, None)]

    def _read(self, body: bytes, snapshot: Snapshot) -> bytes:
        document = parse_form(body, Document, _AS_DOCUMENT)
        parameters = document.parameters or Parameters()
        _require_function(parameters.function_to_apply, snapshot)
        self.top_k = parameters.top_k
        return _decoded(document.inputs)


async def computed(request: Request, adapter: str, envelope: OneImage) -> Outcomes:
    """The prediction of one adapter for one image. Raises what POST /predict raises."""
    parse_references(adapter, 1)
    predictor: Predictor = request.app.state.predictor
    wanted = Wanted(adapter, timeout_s=_context_of(request).settings.request_timeout_s)
    return await predictor.compute(request, wanted, envelope)


def told(request: Request, outcomes: Outcomes, envelope: OneImage) -> tuple[list[LabelScore], dict[str, str]]:
    """The labels and scores of POST /predict, best first, and headers: which version answered, and its decision."""
    predictor: Predictor = request.app.state.predictor
    (only,) = outcomes.every
    (result,) = predictor.told(request, outcomes)
    assert isinstance(only, ComputedPrediction)  # the only adapter's failure is the request's
    assert isinstance(result, ImagePrediction | SegmentedImagePrediction)
    headers = answered_by(only.snapshot.version)
    if isinstance(result, ImagePrediction) and result.trust is not None:
        headers["Lensmount-Decision"] = result.trust.decision
    return result.predictions[: envelope.top_k], headers


def _context_of(request: Request) -> AppContext:
    context: AppContext = request.app.state.context
    return context


def _require_function(asked: str | None, snapshot: Snapshot) -> None:
    activation = snapshot.adapter.manifest.head.activation
    if asked not in (None, activation):
        raise RequestInvalid(
            f"parameters.function_to_apply: found {asked}, expected {activation}, which gives the scores of "
            f"{snapshot.version.name}. Fix: leave it out"
        )


def _decoded(text: str) -> bytes:
    """The bytes of base64, also in lines or as a `data:` URL. Raises RequestInvalid."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text.replace("\r", "").replace("\n", ""), strict_mode=True)
    except ValueError as error:
        raise RequestInvalid(
            "inputs: found text that is not base64, expected an image in base64; this server fetches no URL. "
            "Fix: send base64.b64encode(data).decode()"
        ) from error
