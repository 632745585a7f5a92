"""POST /hf/{adapter}: image classification as Hugging Face's client and endpoints speak it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.twins.one_image import OneImage, computed, told
from lensmount_service.twins.openapi import IMAGE_BODY
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.schemas import LabelScore

router = APIRouter(route_class=GuardedRoute, tags=["twins of other servers"], responses=PROBLEMS)


@router.post(
    "/hf/{adapter}",
    response_model=list[LabelScore],
    openapi_extra=IMAGE_BODY,
    summary="Label an image, as Hugging Face does",
)
async def classify(request: Request, adapter: str) -> JSONResponse:
    """Post an image as the raw body, or in base64 as `inputs` of JSON, with `top_k` in `parameters`.

    `adapter` is a reference as in POST /predict, and the scores are those of POST /predict. The header
    `Lensmount-Adapter` says which version answered; `Lensmount-Decision` is its decision, if it has trust.
    """
    envelope = OneImage()
    labels, headers = told(request, await computed(request, adapter, envelope), envelope)
    return JSONResponse([each.model_dump() for each in labels], headers=headers)
