from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason='needs protobuf: pip install "lensmount[grpc]"')

from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.answers import InferAnswer
from lensmount_service.oip.converted import answer_of, request_of
from lensmount_service.oip.messages import message
from lensmount_service.oip.requests import AskedOutput
from lensmount_service.oip.tensors import AnswerTensor


def asked(**more: object) -> object:
    made = message("ModelInferRequest")(model_name="cells", **more)
    made.inputs.add(name="image", datatype="BYTES", shape=[1])
    return made


def test_values_are_raw_bytes_or_typed_contents() -> None:
    (raw,) = request_of(asked(raw_input_contents=[b"\2\0\0\0hi"])).inputs
    assert raw.elements(1) == [b"hi"]
    typed = message("ModelInferRequest")()
    typed.inputs.add(name="image", datatype="BYTES", shape=[2], contents={"bytes_contents": [b"a", b"b"]})
    typed.inputs.add(name="input", datatype="FP32", shape=[2], contents={"fp32_contents": [0.5, 1.5]})
    images, floats = request_of(typed).inputs
    assert images.elements(2) == [b"a", b"b"]
    assert floats.floats(2).tolist() == [0.5, 1.5]


def test_parameters_and_outputs_are_read() -> None:
    made = message("ModelInferRequest")(id="7", raw_input_contents=[b""])
    made.inputs.add(name="image", datatype="BYTES", shape=[1]).parameters["content_type"].string_param = "base64"
    made.outputs.add(name="scores").parameters["classification"].int64_param = 2
    made.parameters["timeout"].int64_param = 9
    request = request_of(made)
    assert (request.id, request.parameters) == ("7", {"timeout": 9})
    assert list(request.outputs) == [AskedOutput("scores", 2)]
    assert request.inputs[0].parameters == {"content_type": "base64"}


def test_requests_that_contradict_themselves_are_refused() -> None:
    both = asked(raw_input_contents=[b""])
    both.inputs[0].contents.bytes_contents.append(b"x")  # type: ignore[attr-defined]  # messages are built at run time
    unset = asked(raw_input_contents=[b""])
    unset.parameters["x"].SetInParent()  # type: ignore[attr-defined]
    for made in (
        both,
        unset,
        asked(raw_input_contents=[b"", b""]),
        message("ModelInferRequest")(),
        asked(id="x" * 257),
        message("ModelInferRequest")(inputs=[{"name": "image"}] * 17),
    ):
        with pytest.raises(RequestInvalid):
            request_of(made)


def test_an_answer_has_its_values_as_raw_bytes() -> None:
    scores = AnswerTensor("scores", "FP32", (1, 2), np.array([[0.25, 0.75]], np.float32))
    answer = InferAnswer("cells", "3", None, {"digest": "sha256:0"}, [scores], [AskedOutput("scores")])
    made = answer_of(answer)
    assert (made.model_name, made.model_version, made.id, list(made.outputs[0].shape)) == ("cells", "3", "", [1, 2])
    assert made.parameters["digest"].string_param == "sha256:0"
    assert made.raw_output_contents[0] == np.array([0.25, 0.75], "<f4").tobytes()
