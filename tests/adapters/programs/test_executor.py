"""Every executor computes the function it is given, with weights handed in or bound; and which one is taken."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, ExactSwapper, admit
from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.graph.functional import frozen, functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.machine import computes_bfloat16
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.cudagraphs import CudaGraphs
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.programs.executor import Compiled, Executor, Joining
from lensmount_adapters.programs.inductor import Inductor
from lensmount_adapters.programs.openvino import IR, OpenVino, import_openvino
from lensmount_adapters.programs.race import fastest

CPU = torch.device("cpu")
BOUNDS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # beside the largest value


class Net(nn.Module):
    """A branch in small: activations in place in front of everything, constants, kernels and matrices as inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)
        self.constant = nn.Conv2d(8, 12, 3, padding=1)

    def forward(
        self, x: Tensor, mask: Tensor, kernel: Tensor, shift: Tensor, depthwise: Tensor, matrix: Tensor, bias: Tensor
    ) -> Tensor:
        x = self.first(self.constant(self.first(x)))  # [N, 12, H, W]
        x = F.relu6(F.conv2d(x, kernel, shift, stride=2, padding=1))  # [N, 16, H / 2, W / 2]
        x = F.conv2d(x, depthwise, None, padding=1, groups=16)
        return F.linear(x.mean((2, 3)), matrix, bias) * mask  # [N, 10]


SHAPES = ((16, 12, 3, 3), (16,), (16, 1, 3, 3), (10, 16), (10,))


def net() -> fx.GraphModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fx.symbolic_trace(Net()).eval().requires_grad_(False)


def weights(seed: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=draw) / 2 for shape in SHAPES)


def inputs(batch: int = 4, height: int = 14, width: int = 14, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 8, height, width, generator=draw), torch.rand(batch, 10, generator=draw)


def in_float64(given: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    output: Tensor = net().double()(*(tensor.double() for tensor in (*given, *weights)))
    return output


def executor(name: str, dtype: torch.dtype, cache: Path) -> Executor:
    if name == "openvino":
        pytest.importorskip("openvino")
        return OpenVino("cpu", dtype, threads=1, cache=cache)
    if name == "compile":
        return Inductor("cpu", dtype, cache)
    return CudaGraphs("cuda", dtype) if name == "cudagraphs" else Eager("cpu", dtype)


@dataclass
class Made:
    executor: Executor
    compiled: Compiled
    base: tuple[Tensor, ...]
    module: fx.GraphModule

    def assert_close(self, answer: Tensor, expected: Tensor) -> None:
        error = (answer.cpu().double() - expected).abs().max() / expected.abs().max()
        bound = 2e-3 if answer.is_cuda and self.executor.dtype is torch.float32 else BOUNDS[self.executor.dtype]  # TF32
        assert error <= bound


EXECUTORS = [
    ("eager", torch.float32),
    ("eager", torch.bfloat16),
    ("openvino", torch.float32),
    ("openvino", torch.bfloat16),
    ("compile", torch.float32),
    pytest.param(("cudagraphs", torch.float32), marks=pytest.mark.gpu),
    pytest.param(("cudagraphs", torch.bfloat16), marks=pytest.mark.gpu),
    pytest.param(("cudagraphs", torch.float16), marks=pytest.mark.gpu),
]


@pytest.fixture(scope="module", params=EXECUTORS, ids=lambda made: "-".join(map(str, made)))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    name, dtype = request.param
    try:
        made = executor(name, dtype, tmp_path_factory.mktemp("programs"))
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    module, base = net(), weights(0)
    return Made(made, made.compile(module, inputs(2), base, "net"), base, module)


def test_weights_handed_in_and_weights_bound_are_the_function_in_float64(made: Made) -> None:
    changed = weights(1)
    for own in (made.base, changed, (changed[0], made.base[1], changed[2], changed[3], made.base[4])):
        expected = in_float64(inputs(), own)
        made.assert_close(made.compiled.run(inputs(), own), expected)
        made.assert_close(made.compiled.bind(own)(*inputs()), expected)


def test_batch_and_image_size_change_from_call_to_call(made: Made) -> None:
    own = weights(1)
    program = made.compiled.bind(own)
    for size in ((1, 14, 14), (16, 14, 14), (1, 14, 14), (3, 9, 21), (2, 32, 8)):
        expected = in_float64(inputs(*size), own)
        made.assert_close(program(*inputs(*size)), expected)
        made.assert_close(made.compiled.run(inputs(*size), own), expected)


def test_an_answer_survives_the_next_call(made: Made) -> None:
    program = made.compiled.bind(weights(1))
    answers = [call(*inputs(seed=seed)) for seed in range(3) for call in (program, run_of(made, weights(2)))]
    again = [call(*inputs(seed=seed)) for seed in range(3) for call in (program, run_of(made, weights(2)))]
    assert len({answer.data_ptr() for answer in answers}) == 6
    for answer, same in zip(answers, again, strict=True):
        assert torch.equal(answer, same)


class First(nn.Module):
    """A trunk in small, of another number of channels than what follows takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_programs_joined_are_the_one_behind_the_other(dtype: torch.dtype) -> None:
    try:
        made = executor("openvino", dtype, Path())
    except ExecutorUnavailable as error:
        pytest.skip(str(error))
    assert isinstance(made, Joining)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = fx.symbolic_trace(First()).eval().requires_grad_(False)
    own, images = weights(1), torch.randn(2, 3, 28, 28)
    trunk = OpenVino("cpu", dtype).compile(first, (images,), (), "first").bind(())
    second = OpenVino("cpu", dtype).compile(net(), inputs(2), weights(0), "net").bind(own)

    joined = made.join(trunk, second, [images.shape, (1, 10)], many=True)

    assert joined.nbytes > made.join(trunk, second, [images.shape, (1, 10)], many=False).nbytes > 0
    for count, size in ((1, 28), (16, 28), (1, 28), (3, 40)):
        x, mask = torch.randn(count, 3, size, size), torch.rand(count, 10)
        between = copy.deepcopy(first).double()(x.double())
        expected = in_float64((between, mask), own)
        for answer in (joined(x, mask), second(trunk(x), mask)):  # the two go on as before
            assert (answer.double() - expected).abs().max() <= BOUNDS[dtype] * expected.abs().max()


@pytest.mark.parametrize("hands_through", ["first", "second"])
def test_joined_to_one_that_hands_its_input_through(hands_through: str) -> None:
    pytest.importorskip("openvino")
    made = OpenVino("cpu", torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = fx.symbolic_trace(First()).eval().requires_grad_(False)
    x = torch.randn(4, 3, 28, 28)
    nothing = fx.symbolic_trace(nn.Identity())
    modules = (nothing, module) if hands_through == "first" else (module, nothing)
    middle = x if hands_through == "first" else module(x)
    first, second = (
        made.compile(one, (given,), (), "some").bind(()) for one, given in zip(modules, (x, middle), strict=True)
    )

    answer = made.join(first, second, [x.shape], many=True)(x)

    assert (answer - module(x)).abs().max() <= BOUNDS[torch.float32] * answer.abs().max()


def run_of(made: Made, own: Sequence[Tensor]) -> Callable[..., Tensor]:
    return lambda *given: made.compiled.run(given, own)


def test_nothing_that_is_handed_in_is_written(made: Made) -> None:
    given, own = inputs(), weights(1)
    before = copy.deepcopy((given, own, made.base, made.module.state_dict()))

    made.compiled.run(given, own)
    made.compiled.bind(own)(*given)

    after = (given, own, made.base, made.module.state_dict())
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_weights_may_be_written_once_they_are_bound(made: Made) -> None:
    own = weights(1)
    program = made.compiled.bind(own)
    for weight in own:
        weight.zero_()
    made.assert_close(program(*inputs()), in_float64(inputs(), weights(1)))
    assert made.compiled.run(inputs(), own).abs().max() == 0


def test_inputs_of_any_float_dtype_and_layout_are_taken(made: Made) -> None:
    images, mask = inputs()
    exact = images.bfloat16().float()
    expected = in_float64((exact, mask), made.base)
    for given in (exact.bfloat16(), exact.half(), exact.to(memory_format=torch.channels_last), exact[:, :, :, :]):
        made.assert_close(made.compiled.run((given, mask), made.base), expected)
    with torch.inference_mode():
        made.assert_close(made.compiled.run((exact.clone(), mask), made.base), expected)


def test_binding_in_another_thread_disturbs_no_run(made: Made) -> None:
    bound: dict[int, Any] = {}

    def bind() -> None:
        for seed in range(2, 6):
            bound[seed] = made.compiled.bind(weights(seed))

    expected = in_float64(inputs(), weights(1))
    thread = threading.Thread(target=bind)
    thread.start()
    while thread.is_alive():
        made.assert_close(made.compiled.run(inputs(), weights(1)), expected)
    thread.join()

    assert bound.keys() == {2, 3, 4, 5}
    for seed, program in bound.items():
        made.assert_close(program(*inputs()), in_float64(inputs(), weights(seed)))


def test_a_program_says_what_it_holds(made: Made) -> None:
    elements = sum(weight.numel() for weight in made.base)
    assert made.compiled.bind(made.base).nbytes >= elements * made.executor.dtype.itemsize


@pytest.mark.parametrize("name", ["eager", "openvino", pytest.param("cudagraphs", marks=pytest.mark.gpu)])
def test_a_branch_without_a_layer_hands_its_input_through(name: str) -> None:
    """That of an adapter with a head alone. Of one image, and of many, and after other calls."""
    if name == "openvino":
        pytest.importorskip("openvino")
    executor = choose_executor(name, "float32", "cuda" if name == "cudagraphs" else CPU, 1, None)
    given = [torch.randn(count, 48) for count in (1, 1, 4, 1, 4)]
    program = executor.compile(fx.symbolic_trace(nn.Identity()), (given[2],), (), key="").bind((), [given[2].shape])

    answers = [program(x) for x in given]

    assert all(torch.equal(answer.cpu(), x) for answer, x in zip(answers, given, strict=True))


@pytest.mark.parametrize("name", ["eager", "openvino", pytest.param("cudagraphs", marks=pytest.mark.gpu)])
def test_a_trunk_has_no_weights_to_hand_in(name: str, tmp_path: Path) -> None:
    trunk = fx.symbolic_trace(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3), nn.Hardswish()).eval())
    compiled = executor(name, torch.float32, tmp_path).compile(trunk, inputs()[:1], (), "trunk")
    with torch.no_grad():
        expected = trunk(inputs()[0])
    for answer in (compiled.run(inputs()[:1], ()), compiled.bind(())(inputs()[0])):
        torch.testing.assert_close(answer.cpu(), expected, rtol=1e-2, atol=2e-3 if answer.is_cuda else 1e-5)


# OpenVINO


@pytest.fixture
def tracings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each time that a module was traced."""
    traced: list[object] = []
    trace = torch.jit.trace

    def counted(function: object, *given: object, **options: object) -> object:
        traced.append(function)
        return trace(function, *given, **options)  # type: ignore[no-untyped-call]  # torch's

    monkeypatch.setattr(torch.jit, "trace", counted)
    return traced


def compile_in(cache: Path, dtype: torch.dtype = torch.float32) -> Compiled:
    pytest.importorskip("openvino")
    return OpenVino("cpu", dtype, cache=cache).compile(net(), inputs(2), weights(0), "net")


def test_a_second_executor_with_the_same_cache_converts_nothing(tmp_path: Path, tracings: list[object]) -> None:
    first = compile_in(tmp_path / "programs")
    assert len(tracings) == 1
    second = compile_in(tmp_path / "programs")

    assert len(tracings) == 1
    assert torch.equal(first.run(inputs(), weights(1)), second.run(inputs(), weights(1)))
    assert torch.equal(first.bind(weights(1))(*inputs()), second.bind(weights(1))(*inputs()))


def test_the_kept_conversion_is_for_every_precision(tmp_path: Path, tracings: list[object]) -> None:
    compile_in(tmp_path)
    try:
        compile_in(tmp_path, torch.bfloat16)
    except ExecutorUnavailable:
        pytest.skip("the CPU has no bfloat16")
    assert len(tracings) == 1


@pytest.mark.parametrize("damage", ["truncated graph", "no constants", "empty folder"])
def test_a_damaged_conversion_is_made_anew(damage: str, tmp_path: Path, tracings: list[object]) -> None:
    expected = compile_in(tmp_path)
    (folder,) = tmp_path.glob("openvino-*")
    if damage == "truncated graph":
        (folder / IR).write_bytes((folder / IR).read_bytes()[:1000])
    else:
        for file in [folder / "program.bin"] if damage == "no constants" else list(folder.iterdir()):
            file.unlink()

    compiled = compile_in(tmp_path)
    assert len(tracings) == 2
    compile_in(tmp_path)
    assert len(tracings) == 2
    assert torch.equal(compiled.run(inputs(), weights(1)), expected.run(inputs(), weights(1)))


def test_another_module_or_other_shapes_under_the_same_key_are_no_hit(tmp_path: Path) -> None:
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


def test_what_openvino_cannot_convert_is_an_error_with_a_cure() -> None:
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


def test_openvino_is_for_cpus() -> None:
    with pytest.raises(ExecutorUnavailable, match="found device cuda, expected cpu"):
        OpenVino("cuda")


@pytest.fixture
def swapper(small_backbone: Backbone) -> Iterator[ExactSwapper]:
    swapper = ExactSwapper(small_backbone)
    yield swapper
    swapper.unmount()


@pytest.mark.parametrize("method", ["lora", "bias", "norm", "mixed"])
def test_an_adapter_in_openvino_is_the_adapter_mounted(
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


# TorchInductor


def test_a_second_inductor_with_the_same_cache_compiles_nothing(tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    def linear(x: Tensor, matrix: Tensor) -> Tensor:
        return F.relu(F.linear(x, matrix)) + 1

    def compiled() -> dict[str, int]:
        torch.compiler.reset()
        counters.clear()
        try:
            Inductor("cpu", cache=tmp_path).compile(
                fx.symbolic_trace(linear), (torch.ones(3, 4),), (torch.ones(5, 4),), ""
            )
        except ExecutorUnavailable as error:
            pytest.skip(str(error))
        return {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("miss", "hit")}

    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    assert compiled()["hit"] == 0
    assert compiled()["miss"] == 0
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before
    assert (tmp_path / "inductor").is_dir()


def test_a_missing_compiler_is_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ExecutorUnavailable, match=r"found no C\+\+ compiler.*Fix: apt-get install g\+\+"):
        Inductor()


# Which one is taken


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Timed:
    """An executor whose programs take `seconds` on the clock and are off by `error`."""

    clock: Clock
    seconds: float
    dtype: torch.dtype = torch.float32
    error: float = 0.0
    name: str = "timed"
    nbytes: int = 0

    def compile(self, module: Any, inputs: Any, weights: Any, key: str) -> Timed:
        return self

    def bind(self, weights: Any) -> Timed:
        return self

    def run(self, inputs: Any, weights: Any) -> Tensor:
        return self(*inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.clock.now += self.seconds
        return torch.tensor([1.0, 0.5 + self.error])


@pytest.mark.parametrize(
    ("seconds", "errors", "winner"),
    [
        ((1.0, 0.9, 0.85), (0, 0, 0), 0),  # neither pays
        ((1.0, 0.8, 0.7), (0, 0, 0), 1),  # the last is not 1.2 times as fast as the one before
        ((1.0, 0.9, 0.8), (0, 0, 0), 2),
        ((1.0, 0.5, 0.1), (0, 0.002, 0.04), 2),  # float32 off by 2e-3 is wrong, bfloat16 off by 4e-2 is not
        ((1.0, 0.5, 0.1), (0, 0, 0.06), 1),
        ((1.0, 0.5, 0.1), (0, 0, float("nan")), 1),
    ],
)
def test_what_pays_and_agrees_is_taken(seconds: tuple[float, ...], errors: tuple[float, ...], winner: int) -> None:
    clock = Clock()
    dtypes = (torch.float32, torch.float32, torch.bfloat16)
    candidates = [Timed(clock, *one) for one in zip(seconds, dtypes, errors, strict=True)]
    assert fastest(candidates, CPU, clock) is candidates[winner]


@pytest.mark.parametrize(
    ("name", "precision"),
    [("eager", "float32"), ("eager", "float16"), ("openvino", "float32"), ("compile", "bfloat16")],
)
def test_what_is_asked_for_is_taken(name: str, precision: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    chosen = choose_executor(name, precision, "cpu", threads=1, cache=None)
    assert (chosen.name, chosen.dtype) == (name, getattr(torch, precision))


def test_auto_remembers_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")

    def race(*_: object) -> Executor:
        raise AssertionError("measured again")

    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", race)
    again = choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")
    assert (again.name, again.dtype) == (first.name, first.dtype)
    with pytest.raises(AssertionError, match="measured again"):
        choose_executor("auto", "auto", "cpu", threads=2, cache=tmp_path / "programs")
    for file in (tmp_path / "programs").glob("executor-*.json"):
        file.write_text('{"executor": "abacus"}')
    with pytest.raises(AssertionError, match="measured again"):
        choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")


def test_auto_tries_no_bfloat16_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    tried: list[torch.dtype] = []

    def race(candidates: Sequence[Executor], device: torch.device) -> Executor:
        tried.extend(one.dtype for one in candidates)
        return candidates[-1]

    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", race)
    assert choose_executor("auto", "auto", "cpu", threads=1, cache=None).dtype is torch.float32
    assert set(tried) == {torch.float32}


def test_a_masked_processor_has_no_bfloat16_in_torch_and_in_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True}, raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert computes_bfloat16(CPU)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not computes_bfloat16(CPU)
    pytest.importorskip("openvino")
    with pytest.raises(ExecutorUnavailable, match="expected BF16"):
        OpenVino("cpu", torch.bfloat16)


def test_auto_tries_openvino_and_bfloat16_where_there_are_both(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    if not computes_bfloat16(CPU):
        pytest.skip("the CPU has no bfloat16")
    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", lambda candidates, device: candidates[-1])
    chosen = choose_executor("auto", "auto", "cpu", threads=1, cache=None)
    assert (chosen.name, chosen.dtype) == ("openvino", torch.bfloat16)


def test_auto_does_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose_executor("auto", "float32", "cpu", threads=1, cache=None).name == "eager"
    with pytest.raises(ExecutorUnavailable, match=r"Fix: pip install 'lensmount\[openvino\]'"):
        choose_executor("openvino", "auto", "cpu", threads=1, cache=None)


@pytest.mark.parametrize(("name", "precision"), [("tensorrt", "auto"), ("auto", "int8")])
def test_unknown_names_are_answered_with_the_known_ones(name: str, precision: str) -> None:
    with pytest.raises(ExecutorUnavailable, match="expected one of auto, eager, openvino") as caught:
        choose_executor(name, precision, "cpu", threads=1, cache=None)
    assert caught.value.code == "executor_unavailable"


def test_cuda_graphs_need_a_cuda_device() -> None:
    with pytest.raises(ExecutorUnavailable, match="found device cpu"):
        choose_executor("cudagraphs", "auto", "cpu", threads=1, cache=None)


def test_a_shape_that_comes_often_gets_a_faster_request_with_the_same_answers() -> None:
    pytest.importorskip("openvino")
    from lensmount_adapters.programs.openvino import EXACT_AFTER

    module = fx.symbolic_trace(torch.nn.Conv2d(3, 8, 3, padding=1).eval())
    images = torch.randn(4, 3, 16, 16)
    program = choose_executor("openvino", "float32", "cpu", 1, None).compile(module, (images,), (), "k").bind(())
    first = program(images)

    for _ in range(EXACT_AFTER):
        program(images)
    give_up = time.monotonic() + 60
    while not program.exact and time.monotonic() < give_up:  # type: ignore[attr-defined]
        time.sleep(0.01)

    assert list(program.exact) == [((4, 3, 16, 16),)]  # type: ignore[attr-defined]
    torch.testing.assert_close(program(images), first)
    torch.testing.assert_close(program(images[:2]), first[:2])
