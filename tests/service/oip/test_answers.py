from __future__ import annotations

import json

import numpy as np

from lensmount_service.oip.answers import InferAnswer
from lensmount_service.oip.requests import AskedOutput
from lensmount_service.oip.tensors import AnswerTensor

SCORES = AnswerTensor("scores", "FP32", (1, 2), np.array([[0.25, 0.75]], np.float32))
LABEL = AnswerTensor("label", "BYTES", (1,), [b"yes"])


def answer(*binary: bool) -> InferAnswer:
    asked = [AskedOutput("scores", is_binary=binary[0]), AskedOutput("label", is_binary=binary[1])]
    return InferAnswer("cells", "3", "r1", {"digest": "sha256:0"}, [SCORES, LABEL], asked)


def test_an_answer_in_json_is_one_document() -> None:
    body, length = answer(False, False).encode()
    assert length is None
    assert json.loads(body) == {
        "model_name": "cells",
        "model_version": "3",
        "id": "r1",
        "parameters": {"digest": "sha256:0"},
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["yes"]},
        ],
    }


def test_raw_outputs_stand_behind_the_json_in_their_order() -> None:
    body, length = answer(True, True).encode()
    outputs = json.loads(body[:length])["outputs"]
    assert [each["parameters"] for each in outputs] == [{"binary_data_size": 8}, {"binary_data_size": 7}]
    assert body[length:] == np.array([0.25, 0.75], "<f4").tobytes() + b"\3\0\0\0yes"
    body, length = answer(True, False).encode()
    assert body[length:] == np.array([0.25, 0.75], "<f4").tobytes()
    assert json.loads(body[:length])["outputs"][1]["data"] == ["yes"]
