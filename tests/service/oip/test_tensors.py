from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest

from lensmount_service.errors import BodyTooLarge, RequestInvalid
from lensmount_service.oip.tensors import AnswerTensor, GivenTensor, split

pytest.importorskip("tritonclient.utils", reason='needs tritonclient: pip install "lensmount[dev]"')
from tritonclient import utils as tritonclient


def given(values: Any, datatype: str = "BYTES", **parameters: Any) -> GivenTensor:
    return GivenTensor("image", datatype, (1,), values, parameters)


def test_elements_of_bytes_are_those_that_triton_s_own_library_writes() -> None:
    elements = [b"", b"a", b"\0" * 300, "é".encode()]
    raw = tritonclient.serialize_byte_tensor(np.array(elements, dtype=object)).item()
    assert given(raw).elements(4) == split(memoryview(raw), 4) == elements
    assert AnswerTensor("label", "BYTES", (4,), elements).raw() == raw
    assert tritonclient.deserialize_bytes_tensor(raw).tolist() == elements


def test_texts_are_base64_and_bytes_are_not_unless_their_content_type_says_so() -> None:
    text = base64.b64encode(b"hello").decode()
    assert given([text]).elements(1) == given([[text]]).elements(1) == [b"hello"]
    assert given([b"hello"]).elements(1) == [b"hello"]
    packed = struct.pack("<I", len(text)) + text.encode()
    assert given(packed).elements(1) == [text.encode()]
    assert given(packed, content_type="base64").elements(1) == [b"hello"]


def test_more_elements_than_allowed_are_refused_before_they_are_collected() -> None:
    with pytest.raises(BodyTooLarge) as told:
        given(bytes(4 * 10**6)).elements(64)
    assert told.value.code == "batch_too_large"
    with pytest.raises(BodyTooLarge):
        given(["aGk="] * 65).elements(64)


@pytest.mark.parametrize("raw", [b"\1", b"\1\0\0\0", b"\xff\xff\xff\xffx", b"\0\0\0\0\1\0\0"])
def test_an_element_that_ends_behind_its_tensor_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestInvalid, match="expected whole elements"):
        given(raw).elements(9)


def test_numbers_are_read_from_bytes_and_from_nested_lists_with_the_same_bits() -> None:
    values = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    for form in (values.tobytes(), values.tolist(), values.ravel().tolist(), memoryview(values.tobytes())):
        assert given(form, "FP32").floats(6).tobytes() == values.tobytes()


@pytest.mark.parametrize("values", [b"", bytes(23), bytes(25), [], [0] * 5, [0] * 7, [0] * 5 + ["1"], [0] * 5 + [True]])
def test_numbers_that_are_not_what_the_shape_says_are_refused(values: Any) -> None:
    with pytest.raises(RequestInvalid, match="Fix: send what `shape` and `datatype` say"):
        given(values, "FP32").floats(6)


def test_answers_in_json_keep_the_bits_of_float32_and_show_what_is_no_text_as_base64() -> None:
    values = np.random.default_rng(2).random((3, 4)).astype(np.float32)
    tensor = AnswerTensor("scores", "FP32", (3, 4), values)
    assert np.array(tensor.json(), np.float32).tobytes() == tensor.raw() == values.tobytes()
    assert AnswerTensor("label", "BYTES", (1,), ["é".encode()]).json() == ["é"]
    assert AnswerTensor("masks", "BYTES", (1,), [b"\x89PNG"], False).json() == [base64.b64encode(b"\x89PNG").decode()]
