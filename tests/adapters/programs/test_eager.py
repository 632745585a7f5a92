"""The eager executor runs a module as torch would, with weights passed in or bound."""

from __future__ import annotations

from typing import Any

import torch

from lensmount_adapters.programs.cast import Cast
from lensmount_adapters.programs.eager import Eager, TorchCompiled


def test_it_computes_the_module_with_the_weights_of_each_call(small_net: Any) -> None:
    base, other = small_net.weights(0), small_net.weights(1)
    compiled = Eager().compile(small_net.module(), small_net.inputs(2), base, key="")

    for weights in (base, other):
        expected = small_net.in_float64(small_net.inputs(), weights).float()
        torch.testing.assert_close(compiled.run(small_net.inputs(), weights), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled.bind(weights)(*small_net.inputs()), expected, rtol=1e-4, atol=1e-5)


def test_it_computes_in_the_precision_that_it_is_made_for(small_net: Any) -> None:
    compiled = Eager("cpu", torch.bfloat16).compile(small_net.module(), small_net.inputs(2), small_net.weights(0), "")

    assert compiled.run(small_net.inputs(), small_net.weights(0)).dtype is torch.bfloat16
    program = compiled.bind(small_net.weights(0))
    assert program.nbytes == 2 * sum(weight.numel() for weight in small_net.weights(0))


def test_a_compiled_form_of_the_module_can_be_given_copies_of_everything(small_net: Any) -> None:
    """CUDA graphs write to their inputs, so they must not get the caller's tensors."""
    base, inputs = small_net.weights(0), small_net.inputs()
    cast = Cast(small_net.module(), base, torch.device("cpu"), torch.float32)
    seen: list[int] = []

    def call(*tensors: torch.Tensor) -> torch.Tensor:
        seen.extend(tensor.data_ptr() for tensor in tensors)
        return tensors[0]

    other = small_net.weights(1)
    TorchCompiled(cast, call, copies=True).run(inputs, other)

    assert not {tensor.data_ptr() for tensor in (*inputs, *other)} & set(seen)
