"""POST /predict: from arguments to a Call, and from its response to predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import httpx

from lensmount_client._api.adapters import BYTES
from lensmount_client._api.read import read_adapter_id, read_backbone
from lensmount_client._errors import AdapterMismatch, InvalidInput, UnexpectedResponse
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import STRICT, Reference, checked_decision
from lensmount_client._types.predictions import Fallback, Prediction, PredictionError, Predictions, Score
from lensmount_client._types.results import Backbone
from lensmount_client._types.trust import Trust, TrustBasis, Unfamiliarity

HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?")
OWN = re.compile(r"accept|accept-.*|authorization|connection|content-.*|expect|host|te|trailer|transfer-.*|upgrade")


def predict(
    image: bytes,
    adapters: Sequence[str],
    top_k: int,
    decision: str,
    timeout_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[Predictions]:
    """One image with one or several adapters. The predictions are in the order of the adapters."""
    strict = checked_decision(decision) == STRICT
    references = [Reference.parse(text) for text in adapters]
    if not references:
        raise InvalidInput("adapter: found an empty list, expected one adapter or more")
    if top_k < 1:
        raise InvalidInput(f"top_k: found {top_k}, expected 1 or more")

    def read(response: Response) -> Predictions:
        fields = JsonFields.of(response)
        several = "results" in fields.value
        results = list(fields.children("results")) if several else [fields]
        if len(results) != len(references):
            raise AdapterMismatch(
                f"found predictions of {len(results)} adapters, expected {len(references)}", response.request_id
            )
        if strict and any("abstained" not in result.value and "error" not in result.value for result in results):
            raise UnexpectedResponse(
                'found a server that does not know decision="strict". Fix: install the same version there as here, or '
                "leave decision out",
                response.request_id,
            )
        predictions = Predictions(prediction_of(result, fields) for result in results)
        for reference, prediction in zip(references, predictions, strict=True):
            reference.check(prediction.adapter, prediction.request_id)
        return predictions

    params: dict[str, str | int] = {"adapter": ",".join(adapters), "top_k": top_k}
    if strict:
        params["decision"] = STRICT
    if timeout_s is not None:
        params["timeout"] = f"{timeout_s:g}"
    return Call(
        "POST",
        "/predict",
        read,
        params=params,
        content=image,
        content_type=BYTES,
        headers=checked_headers(headers or {}),
    )


def predict_low(
    images: Sequence[tuple[str, bytes]], adapters: Sequence[str], timeout_s: float
) -> Call[list[list[Prediction]]]:
    """Several images behind all other requests: for each, the prediction or the error of each adapter, in order."""
    files = [("file", (f"{number}", data, BYTES)) for number, (_, data) in enumerate(images)]
    form = httpx.Request("POST", "http://localhost", files=files)  # nothing is sent: it writes the body

    def read(response: Response) -> list[list[Prediction]]:
        fields = JsonFields.of(response)
        results = list(fields.children("results")) if "results" in fields.value else [fields]
        if len(results) != len(images) * len(adapters):
            raise UnexpectedResponse(
                f"found {len(results)} results, expected {len(images) * len(adapters)}", response.request_id
            )
        every = [prediction_of(result, fields) for result in results]
        return [every[first : first + len(adapters)] for first in range(0, len(every), len(adapters))]

    params: dict[str, str | int] = {"adapter": ",".join(adapters), "top_k": 10_000, "priority": "low"}
    params["timeout"] = f"{timeout_s:g}"
    content_type = form.headers["Content-Type"]
    return Call(
        *("POST", "/predict", read),
        params=params,
        content=form.read(),
        content_type=content_type,
        read_s=timeout_s + 30,
    )


def prediction_of(fields: JsonFields, outermost: JsonFields) -> Prediction:
    """The result for one adapter, or its error."""
    if (failure := fields.child_or_none("error")) is not None:
        return Prediction(
            predictions=(),
            adapter=read_adapter_id(fields.child("adapter")),
            backbone=Backbone("", ""),
            request_id=outermost.string("request_id"),
            timing_ms={},
            error=PredictionError(failure.integer("status"), failure.string("code"), failure.string("detail")),
        )
    scores = tuple(Score(item.string("label"), item.number("score")) for item in fields.children("predictions"))
    trust, abstained = fields.child_or_none("trust"), fields.string_or_none("abstained")
    if not scores and abstained is None:
        fields.child("predictions[0]")  # raises an error that names the missing element
    timing, fallback = fields.child("timing_ms"), fields.child_or_none("fallback")
    return Prediction(
        predictions=scores,
        adapter=read_adapter_id(fields.child("adapter")),
        backbone=read_backbone(fields.child("backbone")),
        request_id=(fields if "request_id" in fields.value else outermost).string("request_id"),
        timing_ms={phase: timing.number(phase) for phase in timing.value},
        trust=None if trust is None else _trust_of(trust),
        abstained=abstained,
        fallback=None
        if fallback is None
        else Fallback(fallback.integer("asked"), fallback.integer("served"), fallback.string("code")),
    )


def _trust_of(fields: JsonFields) -> Trust:
    unlike, basis = fields.child_or_none("unfamiliarity"), fields.child_or_none("calibration")
    return Trust(
        decision=fields.string("decision"),
        confidence=fields.number("confidence"),
        set=None if fields.value.get("set") is None else fields.strings("set"),
        unfamiliarity=None if unlike is None else Unfamiliarity(unlike.number("percentile"), unlike.boolean("flag")),
        calibration=None
        if basis is None
        else TrustBasis(basis.integer("images"), basis.number_or_none("ece"), basis.number_or_none("coverage")),
    )


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises InvalidInput for a header that is none, or that the client sets itself."""
    for name, value in headers.items():
        if not isinstance(name, str) or not HEADER.fullmatch(name) or OWN.fullmatch(name.lower()):
            raise InvalidInput(
                f"headers: found the name {str(name)[:80]!r}, expected one that the client does not set itself. "
                "Fix: such as X-Patient"
            )
        if not isinstance(value, str) or not VALUE.fullmatch(value):
            raise InvalidInput(
                f"headers: found {str(value)[:80]!r} for {name}, expected 1 to 256 printable ASCII characters. "
                "Fix: send a number or a hash in its place"
            )
    return dict(headers)
