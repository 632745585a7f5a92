"""Every executor computes the function it is given, with weights passed as inputs and with bound weights."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Compiled, Executor

CPU = torch.device("cpu")
BOUNDS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # relative to the largest value


def executor(name: str, dtype: torch.dtype, cache: Path) -> Executor:
    if name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    precision = str(dtype).removeprefix("torch.")
    return choose_executor(name, precision, "cuda" if name == "cudagraphs" else CPU, 1, cache)


@dataclass
class Made:
    executor: Executor
    compiled: Compiled
    base: tuple[Tensor, ...]
    module: fx.GraphModule
    net: Any  # the fixture small_net

    def assert_close(self, output: Tensor, expected: Tensor) -> None:
        error = (output.cpu().double() - expected).abs().max() / expected.abs().max()
        bound = 2e-3 if output.is_cuda and self.executor.dtype is torch.float32 else BOUNDS[self.executor.dtype]  # TF32
        assert error <= bound


EXECUTORS = [
    ("eager", torch.float32),
    ("eager", torch.bfloat16),
    ("openvino", torch.float32),
    ("openvino", torch.bfloat16),
    ("onnxruntime", torch.float32),
    ("compile", torch.float32),
    pytest.param(("cudagraphs", torch.float32), marks=pytest.mark.gpu),
    pytest.param(("cudagraphs", torch.bfloat16), marks=pytest.mark.gpu),
    pytest.param(("cudagraphs", torch.float16), marks=pytest.mark.gpu),
]


pytestmark = pytest.mark.usefixtures("quick_inductor")


@pytest.fixture(scope="module", params=EXECUTORS, ids=lambda made: "-".join(map(str, made)))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_net: Any) -> Made:
    name, dtype = request.param
    if name == "compile" and "ATEN_CPU_CAPABILITY" in os.environ:
        pytest.skip("TorchInductor mixes vectors of 16 and 8 numbers if a processor with AVX-512 masks it")
    try:
        made = executor(name, dtype, tmp_path_factory.mktemp("programs"))
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    module, base = small_net.module(), small_net.weights(0)
    return Made(made, made.compile(module, small_net.inputs(2), base, "net"), base, module, small_net)


def test_running_and_binding_weights_give_the_function_in_float64(made: Made) -> None:
    changed = made.net.weights(1)
    for weights in (made.base, changed, (changed[0], made.base[1], changed[2], changed[3], made.base[4])):
        expected = made.net.in_float64(made.net.inputs(), weights)
        made.assert_close(made.compiled.run(made.net.inputs(), weights), expected)
        made.assert_close(made.compiled.bind(weights)(*made.net.inputs()), expected)


def test_batch_and_image_size_change_from_call_to_call(made: Made) -> None:
    weights = made.net.weights(1)
    program = made.compiled.bind(weights)
    for size in ((1, 14, 14), (16, 14, 14), (1, 14, 14), (3, 9, 21), (2, 32, 8)):
        expected = made.net.in_float64(made.net.inputs(*size), weights)
        made.assert_close(program(*made.net.inputs(*size)), expected)
        made.assert_close(made.compiled.run(made.net.inputs(*size), weights), expected)


def test_an_output_stays_valid_after_the_next_call(made: Made) -> None:
    program = made.compiled.bind(made.net.weights(1))
    outputs = [
        call(*made.net.inputs(seed=seed)) for seed in range(3) for call in (program, run_of(made, made.net.weights(2)))
    ]
    again = [
        call(*made.net.inputs(seed=seed)) for seed in range(3) for call in (program, run_of(made, made.net.weights(2)))
    ]
    assert len({output.data_ptr() for output in outputs}) == 6
    for output, same in zip(outputs, again, strict=True):
        assert torch.equal(output, same)


def run_of(made: Made, weights: Sequence[Tensor]) -> Callable[..., Tensor]:
    return lambda *inputs: made.compiled.run(inputs, weights)


def test_inputs_weights_and_the_module_are_never_written(made: Made) -> None:
    inputs, weights = made.net.inputs(), made.net.weights(1)
    before = copy.deepcopy((inputs, weights, made.base, made.module.state_dict()))

    made.compiled.run(inputs, weights)
    made.compiled.bind(weights)(*inputs)

    after = (inputs, weights, made.base, made.module.state_dict())
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_weights_may_be_written_once_they_are_bound(made: Made) -> None:
    weights = made.net.weights(1)
    program = made.compiled.bind(weights)
    for weight in weights:
        weight.zero_()
    made.assert_close(program(*made.net.inputs()), made.net.in_float64(made.net.inputs(), made.net.weights(1)))
    assert made.compiled.run(made.net.inputs(), weights).abs().max() == 0


def test_inputs_may_have_any_float_dtype_and_layout(made: Made) -> None:
    images, mask = made.net.inputs()
    exact = images.bfloat16().float()
    expected = made.net.in_float64((exact, mask), made.base)
    for inputs in (exact.bfloat16(), exact.half(), exact.to(memory_format=torch.channels_last), exact[:, :, :, :]):
        made.assert_close(made.compiled.run((inputs, mask), made.base), expected)
    with torch.inference_mode():
        made.assert_close(made.compiled.run((exact.clone(), mask), made.base), expected)


def test_binding_in_another_thread_does_not_disturb_runs(made: Made) -> None:
    bound: dict[int, Any] = {}

    def bind() -> None:
        for seed in range(2, 6):
            bound[seed] = made.compiled.bind(made.net.weights(seed))

    expected = made.net.in_float64(made.net.inputs(), made.net.weights(1))
    thread = threading.Thread(target=bind)
    thread.start()
    while thread.is_alive():
        made.assert_close(made.compiled.run(made.net.inputs(), made.net.weights(1)), expected)
    thread.join()

    assert bound.keys() == {2, 3, 4, 5}
    for seed, program in bound.items():
        made.assert_close(program(*made.net.inputs()), made.net.in_float64(made.net.inputs(), made.net.weights(seed)))


def test_a_program_counts_at_least_the_bytes_of_its_weights(made: Made) -> None:
    elements = sum(weight.numel() for weight in made.base)
    assert made.compiled.bind(made.base).nbytes >= elements * made.executor.dtype.itemsize


@pytest.mark.parametrize(
    "name", ["eager", "openvino", "onnxruntime", pytest.param("cudagraphs", marks=pytest.mark.gpu)]
)
def test_a_branch_without_layers_returns_its_input(name: str) -> None:
    """An adapter with only a head has such a branch. For one image, for several, and after other calls."""
    if name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    executor = choose_executor(name, "float32", "cuda" if name == "cudagraphs" else CPU, 1, None)
    inputs = [torch.randn(count, 48) for count in (1, 1, 4, 1, 4)]
    program = executor.compile(fx.symbolic_trace(nn.Identity()), (inputs[2],), (), key="").bind((), [inputs[2].shape])

    outputs = [program(x) for x in inputs]

    assert all(torch.equal(output.cpu(), x) for output, x in zip(outputs, inputs, strict=True))


@pytest.mark.parametrize(
    "name", ["eager", "openvino", "onnxruntime", pytest.param("cudagraphs", marks=pytest.mark.gpu)]
)
def test_a_trunk_runs_and_binds_without_weights(name: str, tmp_path: Path, small_net: Any) -> None:
    trunk = fx.symbolic_trace(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3), nn.Hardswish()).eval())
    compiled = executor(name, torch.float32, tmp_path).compile(trunk, small_net.inputs()[:1], (), "trunk")
    with torch.no_grad():
        expected = trunk(small_net.inputs()[0])
    for output in (compiled.run(small_net.inputs()[:1], ()), compiled.bind(())(small_net.inputs()[0])):
        torch.testing.assert_close(output.cpu(), expected, rtol=1e-2, atol=2e-3 if output.is_cuda else 1e-5)
