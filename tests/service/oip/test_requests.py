"""Parts of a body that follow each other; test_rest.py has the bodies that are refused."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from lensmount_service.errors import BodyTooLarge, RequestError, RequestInvalid
from lensmount_service.oip.requests import AskedOutput, header_length_of, read_request


def described(name: str, size: int) -> dict[str, object]:
    return {"name": name, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}


def test_tensors_behind_the_json_are_taken_in_the_order_of_the_inputs() -> None:
    head = json.dumps({"inputs": [described("a", 3), described("b", 0), described("c", 2)]}).encode()
    request = read_request(head + b"aaacc", len(head), 4096)
    assert [bytes(each.values) for each in request.inputs] == [b"aaa", b"", b"cc"]
    for tail in (b"aaac", b"aaaccc"):
        with pytest.raises(RequestInvalid):
            read_request(head + tail, len(head), 4096)


def test_a_body_without_json_is_one_image_and_asks_for_raw_bytes() -> None:
    request = read_request(b"\x89PNG", 0, 1)
    assert [(each.name, each.datatype, each.shape, each.values) for each in request.inputs] == [
        ("image", "BYTES", (1,), [b"\x89PNG"])
    ]
    assert request.all_binary


def test_an_output_is_raw_if_it_says_so_or_else_if_the_request_says_so() -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["aGk="]}
    outputs = [
        {"name": "scores", "parameters": {"classification": 2, "binary_data": False}},
        {"name": "label"},
    ]
    body = json.dumps(
        {"inputs": [tensor], "outputs": outputs, "parameters": {"binary_data_output": True}, "id": "7", "more": 1}
    ).encode()
    request = read_request(body, None, 4096)
    assert list(request.outputs) == [AskedOutput("scores", 2, False), AskedOutput("label", 0, True)]
    assert request.id == "7"


def test_much_json_is_refused_and_the_advice_works() -> None:
    body = json.dumps(
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["aGk=" * 300]}]}
    ).encode()
    with pytest.raises(BodyTooLarge, match="send the tensors behind the JSON"):
        read_request(body, None, 1000)
    head = json.dumps({"inputs": [described("image", 1200)]}).encode()
    assert len(read_request(head + bytes(1200), len(head), 1000).inputs) == 1


@pytest.mark.parametrize(("stated", "length"), [([], None), (["0"], 0), (["12"], 12), (["12", "12"], 12)])
def test_the_length_of_the_json_is_a_number(stated: list[str], length: int | None) -> None:
    assert header_length_of(with_lengths(stated)) == length


@pytest.mark.parametrize("stated", [["-1"], ["1.0"], [""], ["x"], ["1", "2"], ["9" * 13]])
def test_a_length_that_is_no_number_is_refused(stated: list[str]) -> None:
    with pytest.raises(RequestError, match="expected the length of the JSON in bytes"):
        header_length_of(with_lengths(stated))


def with_lengths(stated: list[str]) -> Request:
    headers = [(b"inference-header-content-length", each.encode()) for each in stated]
    return Request({"type": "http", "headers": headers})
