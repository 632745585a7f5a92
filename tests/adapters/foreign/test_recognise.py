"""Forty kinds of files are named for what they are, each with a command that helps."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save
from tests.adapters.foreign.foreign_files import FILES

from lensmount_adapters.foreign.recognise import named, recognise, safetensors_header


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_named_for_what_it_is_with_a_command_that_helps(kind: str) -> None:
    write, words = FILES[kind]

    found = recognise(write())

    assert found is not None
    assert re.match(words, found.words)
    assert re.search(rf"found {words}.*, expected an adapter file of Lensmount\. Fix: ", str(found))


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_short_raises_nothing(kind: str) -> None:
    data = FILES[kind][0]()

    for length in range(0, min(len(data), 64)):
        recognise(data[:length])
    recognise(data[:-1])


def test_a_file_of_lensmount_and_an_unknown_one_are_nothing_foreign() -> None:
    assert recognise(save({"head.weight": torch.ones(2, 2)}, metadata={"lensmount": "{}"})) is None
    assert recognise(b"") is None
    assert recognise(bytes(100)) is None


def test_a_header_that_claims_more_than_the_file_has_is_not_read() -> None:
    assert safetensors_header((2**40).to_bytes(8, "little") + b"{}") is None
    assert safetensors_header((3).to_bytes(8, "little") + b"{]}") is None
    assert safetensors_header((2).to_bytes(8, "little") + b"[]") is None


def test_names_alone_tell_a_network_from_an_adapter() -> None:
    assert named(["conv1.weight", "fc.bias"]).words == "the weights of a whole network"
    assert named(["fc.modules_to_save.default.weight"]).importable
