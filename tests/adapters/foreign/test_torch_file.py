"""Files of torch.save from outside: tensors are read, no code runs, and no memory is taken that the file lacks."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import zipfile
from typing import Any

import pytest
import torch
from tests.adapters.foreign.foreign_files import torch_file
from torch import nn

from lensmount_adapters.errors import AdapterError, AdapterMalformed, AdapterTooLarge, AdapterUnsupported
from lensmount_adapters.foreign.torch_file import read_torch

MAX = 2**20
STATE = {"up.weight": torch.arange(6.0).reshape(2, 3), "up.bias": torch.ones(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "contents",
    [
        STATE,
        collections.OrderedDict(STATE),
        {name: nn.Parameter(tensor) for name, tensor in STATE.items()},
        {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": STATE},
    ],
    ids=["dict", "ordered", "parameters", "Lightning", "model"],
)
def test_a_state_dict_is_read_whatever_holds_it(contents: object, old: bool) -> None:
    tensors, _ = read_torch(torch_file(contents, old), MAX)

    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in STATE.items())


def test_what_is_passed_over_is_said() -> None:
    _, notes = read_torch(torch_file({"state_dict": {**STATE, "version": 2}, "epoch": 3}), MAX)

    assert notes == [
        "took the entry 'state_dict' of the checkpoint and left out epoch",
        "left out 1 entries other than tensors, such as 'version'",
    ]


class _Allocates:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**40,)


class _Tensor:
    def __reduce__(self) -> tuple[Any, ...]:
        return torch.Tensor, (2**10, 2**10)


OBJECTS: dict[str, tuple[Any, str]] = {
    "a whole model": (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    "an object that allocates": (_Allocates(), "bytearray"),
    "a tensor of any size": (_Tensor(), "torch.Tensor"),
    "a function": ({"weight": torch.ones(1), "print": print}, "print"),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("case", OBJECTS)
def test_other_objects_are_refused_by_name_before_they_are_made(case: str, old: bool) -> None:
    contents, word = OBJECTS[case]

    with pytest.raises(AdapterUnsupported, match=rf"found an object of [\w.]*{word}.*Fix: save model.state_dict"):
        read_torch(torch_file(contents, old), MAX)


def test_a_pickle_of_a_newer_protocol_is_refused() -> None:
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 2), buffer, pickle_protocol=4)

    with pytest.raises(AdapterUnsupported, match="found an object of"):
        read_torch(buffer.getvalue(), MAX)


def test_a_tensor_that_claims_more_than_is_stored_is_refused() -> None:
    with pytest.raises(AdapterTooLarge, match="expected at most 1048576"):
        read_torch(torch_file({"a": torch.ones(1).expand(2**30)}), MAX)


def test_a_zip_file_that_unpacks_to_more_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("a/data/0", bytes(2 * MAX))

    with pytest.raises(AdapterTooLarge, match="unpacks to more than"):
        read_torch(buffer.getvalue(), MAX)


def test_a_sparse_tensor_is_refused() -> None:
    with pytest.raises(AdapterUnsupported):
        read_torch(torch_file({"a": torch.eye(3).to_sparse()}), MAX)


@pytest.mark.parametrize("contents", [{}, [1, 2], {"state_dict": {}}, "text", {"a": 1}])
def test_a_file_without_tensors_is_refused(contents: object) -> None:
    with pytest.raises(AdapterUnsupported, match="expected tensors by name"):
        read_torch(torch_file(contents), MAX)


@pytest.mark.parametrize("old", [False, True])
def test_a_damaged_file_is_refused_wherever_it_is_cut_or_changed(old: bool) -> None:
    data = torch_file(STATE, old)
    draw = torch.Generator().manual_seed(0)
    for position in torch.randint(0, len(data), (60,), generator=draw).tolist():
        for damaged in (data[:position], data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]):
            with contextlib.suppress(AdapterError):  # a bit in the tensors' data damages nothing
                read_torch(damaged, MAX)


def test_a_zip_file_of_two_pickles_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("b/data.pkl", pickle.dumps({}, 2))

    with pytest.raises((AdapterUnsupported, AdapterMalformed), match="found 2 pickles"):
        read_torch(buffer.getvalue(), MAX)
