"""OpenVINO: conversions are kept on disk, programs can be joined, nothing is sent home, and adapters are exact."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, ExactSwapper, admit
from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.graph.functional import frozen, functional_branch
from lensmount_adapters.graph.pooling import Pooling
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.machine import computes_bfloat16
from lensmount_adapters.programs.executor import Compiled, Joining
from lensmount_adapters.programs.openvino import EXACT_AFTER, IR, OpenVino, import_openvino

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # relative to the largest value


@pytest.fixture
def tracings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Has one entry per tracing of a module."""
    traced: list[object] = []
    trace = torch.jit.trace

    def counted(function: object, *given: object, **options: object) -> object:
        traced.append(function)
        return trace(function, *given, **options)

    monkeypatch.setattr(torch.jit, "trace", counted)
    return traced


def compile_in(cache: Path, small_net: Any, dtype: torch.dtype = torch.float32) -> Compiled:
    pytest.importorskip("openvino")
    return OpenVino("cpu", dtype, cache=cache).compile(
        small_net.module(), small_net.inputs(2), small_net.weights(0), "net"
    )


def test_a_second_executor_with_the_same_cache_converts_nothing(
    tmp_path: Path, tracings: list[object], small_net: Any
) -> None:
    first = compile_in(tmp_path / "programs", small_net)
    assert len(tracings) == 1
    second = compile_in(tmp_path / "programs", small_net)

    assert len(tracings) == 1
    assert torch.equal(
        first.run(small_net.inputs(), small_net.weights(1)), second.run(small_net.inputs(), small_net.weights(1))
    )
    assert torch.equal(
        first.bind(small_net.weights(1))(*small_net.inputs()), second.bind(small_net.weights(1))(*small_net.inputs())
    )


def test_the_kept_conversion_is_for_every_precision(tmp_path: Path, tracings: list[object], small_net: Any) -> None:
    compile_in(tmp_path, small_net)
    try:
        compile_in(tmp_path, small_net, torch.bfloat16)
    except ExecutorUnavailable:
        pytest.skip("the CPU has no bfloat16")
    assert len(tracings) == 1


@pytest.mark.parametrize("damage", ["truncated graph", "no constants", "empty folder"])
def test_a_damaged_conversion_is_made_again(
    damage: str, tmp_path: Path, tracings: list[object], small_net: Any
) -> None:
    expected = compile_in(tmp_path, small_net)
    (folder,) = tmp_path.glob("openvino-*")
    if damage == "truncated graph":
        (folder / IR).write_bytes((folder / IR).read_bytes()[:1000])
    else:
        for file in [folder / "program.bin"] if damage == "no constants" else list(folder.iterdir()):
            file.unlink()

    compiled = compile_in(tmp_path, small_net)
    assert len(tracings) == 2
    compile_in(tmp_path, small_net)
    assert len(tracings) == 2
    assert torch.equal(
        compiled.run(small_net.inputs(), small_net.weights(1)), expected.run(small_net.inputs(), small_net.weights(1))
    )


def test_another_module_or_other_shapes_with_the_same_key_are_converted_again(tmp_path: Path) -> None:
    pytest.importorskip("openvino")

    def linear(x: Tensor, matrix: Tensor) -> Tensor:
        return F.linear(x, matrix)

    def doubled(x: Tensor, matrix: Tensor) -> Tensor:
        return F.linear(x, matrix) * 2

    x = torch.randn(3, 4)
    for function, rows in ((linear, 5), (doubled, 5), (linear, 6)):
        matrix = torch.randn(rows, 4)
        compiled = OpenVino("cpu", cache=tmp_path).compile(fx.symbolic_trace(function), (x,), (matrix,), "same")
        torch.testing.assert_close(compiled.run((x,), (matrix,)), function(x, matrix))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_the_conversion_has_the_operations_of_openvino_s_own(tmp_path: Path, small_net: Any) -> None:
    compile_in(tmp_path, small_net)
    openvino = import_openvino()
    example = (*small_net.inputs(2), *small_net.weights(0))

    expected = openvino.convert_model(small_net.module(), example_input=example)

    ours = openvino.Core().read_model(next(tmp_path.glob(f"*/{IR}")))
    assert kinds_of(ours) == kinds_of(expected)


def kinds_of(model: Any) -> Counter[str]:
    return Counter(op.get_type_name() for op in model.get_ops())


def test_a_module_that_openvino_cannot_convert_is_an_error_with_a_fix() -> None:
    pytest.importorskip("openvino")

    def eigenvalues(x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvals(x)
        return values.real

    with pytest.raises(BackboneError, match=r"OpenVINO cannot convert .*eigvals.*Fix: the executor eager"):
        OpenVino("cpu").compile(fx.symbolic_trace(eigenvalues), (torch.eye(3),), (), "eigenvalues")


def test_openvino_sends_nothing_home(tmp_path: Path) -> None:
    """Its telemetry writes a random id to the home folder before it sends anything."""
    pytest.importorskip("openvino")
    script = (
        "import socket, sys, torch; from torch import fx, nn\n"
        "def refuse(*_): raise SystemExit('a connection was tried')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from lensmount_adapters.programs.openvino import OpenVino\n"
        "x = torch.ones(1, 2)\n"
        "OpenVino().compile(fx.symbolic_trace(nn.ReLU()), (x,), (), 'relu').bind(())(x)\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    subprocess.run([sys.executable, "-c", script], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=300)
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_without_the_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(import_openvino().Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(ExecutorUnavailable, match=r"found a CPU with FP32, INT8 .* expected BF16\. Fix: the precision"):
        OpenVino("cpu", torch.bfloat16)


def test_a_masked_processor_has_no_bfloat16_in_torch_and_in_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True}, raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert computes_bfloat16(torch.device("cpu"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not computes_bfloat16(torch.device("cpu"))
    pytest.importorskip("openvino")
    with pytest.raises(ExecutorUnavailable, match="expected BF16"):
        OpenVino("cpu", torch.bfloat16)


def test_openvino_is_for_cpus() -> None:
    with pytest.raises(ExecutorUnavailable, match="found device cuda, expected cpu"):
        OpenVino("cuda")


@pytest.fixture
def swapper(small_backbone: Backbone) -> Iterator[ExactSwapper]:
    swapper = ExactSwapper(small_backbone)
    yield swapper
    swapper.unmount()


@pytest.mark.parametrize("method", ["lora", "bias", "norm", "mixed"])
def test_an_adapter_computed_by_openvino_equals_the_mounted_adapter(
    method: str,
    small_backbone: Backbone,
    swapper: ExactSwapper,
    draw_adapter: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pytest.importorskip("openvino")
    openvino = OpenVino("cpu", cache=tmp_path_factory.getbasetemp() / "small-backbone")
    adapter = admit(
        draw_adapter(small_backbone, method, modules=r"blocks\.[2-9].*|conv_head|bn2").dump(), small_backbone
    )
    halves = Segments(small_backbone.module).halves([delta.target.name for delta in adapter.deltas])
    assert halves.trunk is not None
    images = torch.randn(3, 3, *small_backbone.preprocessing.size)
    trunk = openvino.compile(frozen(halves.trunk), (images,), (), f"trunk-{halves.at}").bind(())
    branch = functional_branch(halves.branch, small_backbone)
    compiled = openvino.compile(branch.module, (trunk(images),), branch.base, f"branch-{halves.at}")
    merged = branch.merged(adapter.deltas)
    own = [merged.get(name, base) for name, base in zip(branch.inputs, branch.base, strict=True)]

    answers = (compiled.run((trunk(images),), own), compiled.bind(own)(trunk(images)))

    swapper.mount(adapter)
    expected = small_backbone.features(images)
    for answer in answers:
        assert (answer - expected).abs().max() <= 1e-5 * expected.abs().max()


class First(nn.Module):
    """A small trunk, with 8 channels for the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_joined_programs_compute_one_after_the_other(dtype: torch.dtype, small_net: Any) -> None:
    pytest.importorskip("openvino")
    try:
        openvino = OpenVino("cpu", dtype)
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    assert isinstance(openvino, Joining)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = fx.symbolic_trace(First()).eval().requires_grad_(False)
    own, images = small_net.weights(1), torch.randn(2, 3, 28, 28)
    trunk = OpenVino("cpu", dtype).compile(first, (images,), (), "first").bind(())
    second = (
        OpenVino("cpu", dtype).compile(small_net.module(), small_net.inputs(2), small_net.weights(0), "net").bind(own)
    )

    joined = openvino.join(trunk, second, [images.shape, (1, 10)], many=True)

    assert joined.nbytes > openvino.join(trunk, second, [images.shape, (1, 10)], many=False).nbytes > 0
    for count, size in ((1, 28), (16, 28), (1, 28), (3, 40)):
        x, mask = torch.randn(count, 3, size, size), torch.rand(count, 10)
        between = copy.deepcopy(first).double()(x.double())
        expected = small_net.in_float64((between, mask), own)
        for answer in (joined(x, mask), second(trunk(x), mask)):  # the two still work
            assert (answer.double() - expected).abs().max() <= BOUNDS[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_columns_of_an_appended_program_follow_those_of_the_joined_one(dtype: torch.dtype) -> None:
    pytest.importorskip("openvino")
    try:
        openvino = OpenVino("cpu", dtype)
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = fx.symbolic_trace(First()).eval().requires_grad_(False)
    x = torch.randn(4, 3, 28, 28)
    between = module(x)
    flat = fx.symbolic_trace(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()))
    first, second, appended = (
        openvino.compile(part, (inputs,), (), "some").bind(())
        for part, inputs in ((module, x), (flat, between), (Pooling(4).traced(), between))
    )

    for many, images in ((True, x), (False, x[:1])):
        answer = openvino.join(first, second, [images.shape], many=many, appended=appended)(images)
        expected = torch.cat([between.amax((2, 3)), between.mean((2, 3))], 1)[: len(images)]
        assert (answer - expected).abs().max() <= BOUNDS[dtype] * expected.abs().max()


@pytest.mark.parametrize("identity", ["first", "second"])
def test_a_program_can_be_joined_to_one_that_returns_its_input(identity: str) -> None:
    pytest.importorskip("openvino")
    openvino = OpenVino("cpu", torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = fx.symbolic_trace(First()).eval().requires_grad_(False)
    x = torch.randn(4, 3, 28, 28)
    nothing = fx.symbolic_trace(nn.Identity())
    modules = (nothing, module) if identity == "first" else (module, nothing)
    middle = x if identity == "first" else module(x)
    first, second = (
        openvino.compile(part, (inputs,), (), "some").bind(())
        for part, inputs in zip(modules, (x, middle), strict=True)
    )

    answer = openvino.join(first, second, [x.shape], many=True)(x)

    assert (answer - module(x)).abs().max() <= BOUNDS[torch.float32] * answer.abs().max()


def test_a_frequent_shape_gets_an_exact_request_with_the_same_results() -> None:
    pytest.importorskip("openvino")
    module = fx.symbolic_trace(nn.Conv2d(3, 8, 3, padding=1).eval())
    images = torch.randn(4, 3, 16, 16)
    program = OpenVino("cpu").compile(module, (images,), (), "k").bind(())
    first = program(images)

    for _ in range(EXACT_AFTER):
        program(images)
    give_up = time.monotonic() + 60
    while not any(program.exact.values()) and time.monotonic() < give_up:
        time.sleep(0.01)

    assert list(program.exact) == [((4, 3, 16, 16),)]
    assert all(program.exact.values())
    torch.testing.assert_close(program(images), first)
    torch.testing.assert_close(program(images[:2]), first[:2])
