"""POST /predict with a segmentation adapter: its masks as run lengths, as an image, or as polygons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_client._api.adapters import BYTES
from lensmount_client._api.predict import prediction_of
from lensmount_client._api.read import body_of
from lensmount_client._api.segmentation import Mask, Segmentation
from lensmount_client._errors import UnexpectedResponse
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import Reference

PNG, GEOJSON = "image/png", "application/geo+json"


def segment(image: bytes, adapter: str, timeout_s: float | None = None) -> Call[Segmentation]:
    reference = Reference.parse(adapter)

    def read(response: Response) -> Segmentation:
        fields = JsonFields.of(response)
        prediction = prediction_of(fields, fields)
        reference.check(prediction.adapter, prediction.request_id)
        if "segmentation" not in fields.value:
            raise UnexpectedResponse(
                f"{adapter} returns labels and has no masks. Fix: predict(), or a segmentation adapter",
                prediction.request_id,
            )
        segmentation = fields.child("segmentation")
        height, width = segmentation.integers("size")
        masks = tuple(
            Mask(
                label=mask.string("label"),
                counts=mask.integers("counts"),
                area=mask.integer("area"),
                count=mask.integer("count"),
                areas=mask.integers("areas"),
            )
            for mask in segmentation.children("masks")
        )
        if any(sum(mask.counts) != height * width for mask in masks):
            raise UnexpectedResponse(
                f"found run lengths that do not add up to {height} x {width} pixels", prediction.request_id
            )
        return Segmentation(
            size=(height, width),
            masks=masks,
            adapter=prediction.adapter,
            backbone=prediction.backbone,
            request_id=prediction.request_id,
            timing_ms=prediction.timing_ms,
            image=image,
        )

    return _call(image, adapter, timeout_s, read, "application/json")


def mask_png(image: bytes, adapter: str, timeout_s: float | None = None) -> Call[bytes]:
    return _call(image, adapter, timeout_s, lambda response: body_of(response, PNG), PNG)


def polygons(image: bytes, adapter: str, timeout_s: float | None = None) -> Call[Mapping[str, Any]]:
    return _call(image, adapter, timeout_s, lambda response: JsonFields.of(response).value, GEOJSON)


def _call(image: bytes, adapter: str, timeout_s: float | None, read: Any, accept: str) -> Call[Any]:
    Reference.parse(adapter)
    params: dict[str, str | int] = {"adapter": adapter}
    if timeout_s is not None:
        params["timeout"] = f"{timeout_s:g}"
    return Call("POST", "/predict", read, params=params, content=image, content_type=BYTES, headers={"Accept": accept})
