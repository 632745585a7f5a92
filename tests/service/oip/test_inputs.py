from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lensmount_adapters import Preprocessing
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_service.errors import BodyTooLarge, RequestInvalid
from lensmount_service.oip.inputs import EncodedImages, NetworkInputs, read_inputs
from lensmount_service.oip.tensors import GivenTensor

RULE = Preprocessing(size=(16, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
VOLUMES = VolumePreprocessing(depth=4, size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def image(count: int, *shape: int) -> GivenTensor:
    return GivenTensor("image", "BYTES", shape, [b"x"] * count)


def network(values: Any, *shape: int) -> GivenTensor:
    return GivenTensor("input", "FP32", shape, np.asarray(values, np.float32).tobytes())


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_images_are_a_column_or_a_row(shape: tuple[int, ...]) -> None:
    given = read_inputs([image(2, *shape)], RULE, 64)
    assert isinstance(given, EncodedImages)
    assert len(given) == 2


@pytest.mark.parametrize(("count", "shape"), [(2, (1,)), (2, (1, 2)), (0, (0,)), (1, ()), (4, (2, 2)), (1, (-1,))])
def test_another_shape_is_refused(count: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestInvalid, match="expected \\[N\\] or \\[N, 1\\]"):
        read_inputs([image(count, *shape)], RULE, 64)


def test_the_network_s_input_is_taken_bit_for_bit_and_counts_the_pixels_that_it_has() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (2, 3, 16, 32)).astype(np.float32)
    given = read_inputs([network(values, 2, 3, 16, 32)], RULE, 64)
    assert isinstance(given, NetworkInputs)
    assert given.tensors.numpy().tobytes() == values.tobytes()
    assert given.pixels() == 2 * 16 * 32
    volume = read_inputs([network(np.zeros((1, 3, 4, 16, 16)), 1, 3, 4, 16, 16)], VOLUMES, 64)
    assert volume.pixels() == 4 * 16 * 16


@pytest.mark.parametrize("shape", [(3, 16, 32), (1, 3, 32, 16), (1, 1, 16, 32), (0, 3, 16, 32), (-1, 3, 16, 32), ()])
def test_another_shape_of_the_network_s_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestInvalid, match=r"expected \[N, 3, 16, 32\]"):
        read_inputs([network(np.zeros(3 * 16 * 32), *shape)], RULE, 64)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 8.51, -7.1])
def test_values_that_no_image_has_are_refused_so_that_no_adapter_is_blamed_for_their_scores(value: float) -> None:
    values = np.zeros((1, 3, 16, 32), np.float32)
    values[0, 2, 5, 5] = value
    with pytest.raises(RequestInvalid, match="not finite or far from those of an image"):
        read_inputs([network(values, 1, 3, 16, 32)], RULE, 64)
    values[0, 2, 5, 5] = (1 - 0.3) / 0.2  # white
    assert len(read_inputs([network(values, 1, 3, 16, 32)], RULE, 64)) == 1


def test_a_request_has_one_of_the_two_inputs_with_its_datatype() -> None:
    both = [image(1, 1), network(np.zeros((1, 3, 16, 32)), 1, 3, 16, 32)]
    for inputs in ([], both, [GivenTensor("pixels", "BYTES", (1,), [b"x"])]):
        with pytest.raises(RequestInvalid, match="Fix: send one of the two"):
            read_inputs(inputs, RULE, 64)
    for name, datatype in (("image", "FP32"), ("input", "BYTES"), ("input", "FP16"), ("image", "UINT8")):
        with pytest.raises(RequestInvalid, match="found the datatype"):
            read_inputs([GivenTensor(name, datatype, (1,), b"")], RULE, 64)


def test_more_images_than_a_request_may_have_are_refused() -> None:
    for tensor in (image(65, 65), network(np.zeros((65, 3, 16, 32)), 65, 3, 16, 32)):
        with pytest.raises(BodyTooLarge) as told:
            read_inputs([tensor], RULE, 64)
        assert told.value.code == "batch_too_large"
