"""From the messages of gRPC to requests, and from answers to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.answers import InferAnswer
from lensmount_service.oip.messages import message
from lensmount_service.oip.requests import MAX_TENSORS, AskedOutput, InferRequest, classes_of
from lensmount_service.oip.tensors import BYTES, FP32, GivenTensor

MAX_ID = 256
_CONTENTS = {BYTES: "bytes_contents", FP32: "fp32_contents"}


def request_of(asked: Any) -> InferRequest:
    """The request of a ModelInferRequest. Raises RequestInvalid."""
    if not 1 <= len(asked.inputs) <= MAX_TENSORS or len(asked.outputs) > MAX_TENSORS or len(asked.id) > MAX_ID:
        raise RequestInvalid(
            f"found {len(asked.inputs)} inputs, {len(asked.outputs)} outputs and an id of {len(asked.id)} characters, "
            f"expected 1 to {MAX_TENSORS} inputs, at most {MAX_TENSORS} outputs and at most {MAX_ID} characters. "
            "Fix: ask for less in one request"
        )
    raw = asked.raw_input_contents
    if raw and (len(raw) != len(asked.inputs) or any(each.HasField("contents") for each in asked.inputs)):
        raise RequestInvalid(
            f"found {len(raw)} raw_input_contents for {len(asked.inputs)} inputs, expected one for each input, and no "
            "contents then. Fix: send the values of all inputs in one of the two ways"
        )
    inputs = [_given(each, raw[number] if raw else None) for number, each in enumerate(asked.inputs)]
    outputs = [_asked(each) for each in asked.outputs]
    return InferRequest(inputs, outputs, asked.id or None, parameters_of(asked.parameters))


def parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Texts, numbers, booleans and, for the repository, bytes. Raises RequestInvalid for one without a value."""
    found: dict[str, Any] = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise RequestInvalid(
                f"found the parameter {name[:40]!r} without a value, expected one. Fix: set it, or leave it out"
            )
        found[name] = getattr(parameter, kind)
    return found


def answer_of(answer: InferAnswer) -> Any:
    """A ModelInferResponse. Its values are raw bytes, as those of Triton."""
    made = message("ModelInferResponse")(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id or ""
    )
    for name, value in answer.parameters.items():
        made.parameters[name].string_param = str(value)
    for tensor in answer.outputs:
        made.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        made.raw_output_contents.append(tensor.raw())
    return made


def _asked(output: Any) -> AskedOutput:
    return AskedOutput(output.name, classes_of(output.name, parameters_of(output.parameters)))


def _given(tensor: Any, raw: bytes | None) -> GivenTensor:
    values: Any = raw
    if raw is None:
        values = list(getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "bytes_contents")))
    return GivenTensor(tensor.name, tensor.datatype, tuple(tensor.shape), values, parameters_of(tensor.parameters))
