"""Programs for CPUs by OpenVINO: a module is traced once, kept on disk as OpenVINO's IR, and compiled in milliseconds.

Every weight is a Parameter of the model. A bound program has Constants in their place, which OpenVINO packs once for
the processor's matrix units. Weights that are passed as inputs are packed in every call. They need static shapes, while
batch and image size stay free.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from lensmount_adapters.atomic import fsync_folder
from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.machine import LOW, lower_priority, masks_bfloat16
from lensmount_adapters.programs.executor import Program
from lensmount_adapters.programs.int8_layers import Range, layers_of, round_layers
from lensmount_adapters.programs.openvino_model import constants_of, elements_of, from_torch
from lensmount_adapters.programs.tracing import converting

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
CAPABILITIES = {torch.float32: "FP32", torch.bfloat16: "BF16", torch.float16: "FP16"}
COUNTED_IMAGES = 16  # a program keeps its activations in memory; they are counted for a batch of this size
IR = "program.xml"
KEPT_EXACT, EXACT_AFTER, MOST_SEEN = 1, 64, 256  # exact requests kept, calls before a shape gets one, shapes counted
KEPT_REQUESTS = 16  # per program: two per image size that it is compiled for

Shapes = tuple[tuple[int, ...], ...]


class OpenVino:
    """`OpenVino("cpu", torch.bfloat16, threads=1, cache=Path("programs")).compile(module, inputs, weights, key)`.

    Raises ExecutorUnavailable if OpenVINO is not installed or the processor lacks the precision: OpenVINO itself would
    treat the precision as a hint and compute in float32.
    """

    name = "openvino"

    def __init__(
        self,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        cache: Path | None = None,
    ) -> None:
        if torch.device(device).type != "cpu":
            raise ExecutorUnavailable(f"found device {device}, expected cpu for openvino. Fix: the executor cudagraphs")
        self.dtype = dtype
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        self._cache = cache
        self._cloning = threading.Lock()  # OpenVINO does not say that two threads may clone a model at a time
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if masks_bfloat16():  # OpenVINO includes its own oneDNN, which ignores the environment
            capabilities = [word for word in capabilities if word != CAPABILITIES[torch.bfloat16]]
        if CAPABILITIES[dtype] not in capabilities:
            raise ExecutorUnavailable(
                f"found a CPU with {', '.join(capabilities)} in OpenVINO, expected {CAPABILITIES[dtype]}. "
                "Fix: the precision float32"
            )
        self._config = {
            "INFERENCE_PRECISION_HINT": HINTS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,  # one thread owns the programs and computes one batch at a time
            "ENABLE_CPU_PINNING": False,  # with pinning, two servers on one machine would take the same cores
        }

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> OpenVinoCompiled:
        model = self.model_of(module, inputs, weights, key)
        return OpenVinoCompiled(self, model, tuple(weights), self._activation_bytes(model, [x.shape for x in inputs]))

    def model_of(self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str) -> Any:
        """OpenVINO's model of the module, from the cache if it is there. Raises BackboneError as `compile` does."""
        if self._cache is None:
            return self._converted(module, inputs, weights)
        return self._kept(module, inputs, weights, self._cache / f"openvino-{self._digest(module, key)}")

    def read(self, xml: bytes, weights: bytes) -> Any:
        """The model of an IR in memory. Raises RuntimeError if it cannot be read."""
        return self._core.read_model(xml, weights)

    def program(self, model: Any, shape: Sequence[int]) -> OpenVinoProgram:
        """A program of a model whose weights are all inside, prepared for inputs of this shape."""
        nbytes = self.dtype.itemsize * constants_of(model) + self._activation_bytes(model, [shape])
        program = OpenVinoProgram(self, model, 1, nbytes)
        for samples in (1, 2):
            program.make_ready(((samples, *shape[1:]),))
        return program

    def request(self, model: Any, shapes: Sequence[Sequence[int]], *, samples: bool = False) -> Request:
        """A request for inputs of these shapes. It takes any number of samples, or with `samples` exactly this number.

        Sizes are constant because TensorFlow's padding is computed from them: with free sizes a batch of 16 takes a
        quarter longer on EfficientNet-Lite0 (`Pad` is not fused into the convolution after it).
        """
        fixed = self._clone(model)
        sizes = [self._openvino.PartialShape([shape[0] if samples else -1, *shape[1:]]) for shape in shapes]
        fixed.reshape(dict(zip(fixed.inputs, sizes, strict=False)))  # the other inputs are weights
        compiled = self._core.compile_model(fixed, "CPU", self._config)
        return Request(compiled.create_infer_request(), self._openvino.Tensor)

    def with_constants(
        self,
        model: Any,
        constants: Mapping[int, Tensor],
        shared: frozenset[int],
        ranges: Mapping[int, Range] | None = None,
    ) -> Any:
        """A clone of the model with constants as the inputs at these positions; the `shared` ones are not copied.

        `ranges` are those of the layers whose weights are at these positions, and which compute in int8.
        """
        clone = self._clone(model)
        parameters = clone.get_parameters()
        layers = layers_of(parameters) if ranges else {}
        for position, weight in constants.items():
            constant = self._openvino.op.Constant(_array(weight), shared_memory=position in shared)
            parameters[position].output(0).replace(constant.output(0))
            clone.remove_parameter(parameters[position])
        round_layers(self._openvino, layers, ranges or {})
        clone.validate_nodes_and_infer_types()
        return clone

    def join(
        self,
        first: Program,
        second: Program,
        shapes: Sequence[Sequence[int]],
        *,
        many: bool,
        appended: Program | None = None,
        flat: bool = False,
    ) -> OpenVinoProgram:
        """See Joining. One set of buffers, no copy between the two programs, and one call less."""
        assert isinstance(first, OpenVinoProgram)
        assert isinstance(second, OpenVinoProgram)
        front, back = self._clone(first.model), self._clone(second.model)
        between = front.get_results()[0].input_value(0)
        entrance, *others = back.get_parameters()
        entrance.output(0).replace(between)
        opset, result = self._openvino.opset13, back.get_results()[0].input_value(0)
        columns = [opset.reshape(result, [0, -1], True).output(0) if flat else result]
        if appended is not None:
            assert isinstance(appended, OpenVinoProgram)
            side = self._clone(appended.model)
            side.get_parameters()[0].output(0).replace(between)
            columns.append(side.get_results()[0].input_value(0))
        joined = opset.concat(columns, 1).output(0) if appended is not None else columns[0]
        model = self._openvino.Model([joined], [*front.get_parameters(), *others])
        packed, activations = self.dtype.itemsize * constants_of(model), self._activation_bytes(model, shapes)
        nbytes = (1 + KEPT_EXACT) * packed + activations if many else packed + activations // COUNTED_IMAGES
        program = OpenVinoProgram(self, model, second.free, nbytes)
        program.make_ready(tuple((1 + many, *shape[1:]) for shape in shapes))
        return program

    def _clone(self, model: Any) -> Any:
        with self._cloning:  # one lock for all models: two models may share constants
            return model.clone()

    def _kept(self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], folder: Path) -> Any:
        """The cached model. It is converted if it is missing, damaged or has other inputs."""
        try:
            model = self._core.read_model(folder / IR)
        except RuntimeError:  # missing or damaged
            model = None
        expected = self._shapes(inputs, weights)
        if model is None or [port.get_partial_shape() for port in model.inputs] != expected:
            model = self._converted(module, inputs, weights)
            self._keep(model, folder)
        return model

    def _converted(self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Any:
        example = tuple(torch.clone(tensor.detach().float().cpu()) for tensor in (*inputs, *weights))
        copied = copy.deepcopy(module).eval().requires_grad_(False)
        with converting():
            try:
                # checking the trace takes half of the time; tracing the module instead of a function is slower too
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch's
                    lambda *inputs: copied(*inputs), example, check_trace=False, strict=False
                )
                model = from_torch(traced, example)
            except Exception as error:  # tracing runs the model's own code, and OpenVINO raises errors of many kinds
                raise BackboneError(
                    f"OpenVINO cannot convert this backbone: {' '.join(str(error).split())[:400]}. "
                    "Fix: the executor eager"
                ) from error
        shapes = self._shapes(inputs, weights)
        if len(model.inputs) != len(shapes):
            found = f"found {len(model.inputs)} inputs after the conversion, expected {len(shapes)}"
            raise BackboneError(f"OpenVINO: {found}. Fix: the executor eager")
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        return model

    def _shapes(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Any]:
        free = [self._openvino.PartialShape([-1] * x.ndim) for x in inputs]
        return free + [self._openvino.PartialShape(list(weight.shape)) for weight in weights]

    def _keep(self, model: Any, folder: Path) -> None:
        """Save the model atomically, by renaming a temporary folder. If two processes write, one result stays."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            self._openvino.save_model(model, written / IR, compress_to_fp16=False)
            for file in written.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            shutil.rmtree(folder, ignore_errors=True)
            try:
                written.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
            fsync_folder(folder.parent)
        finally:
            shutil.rmtree(written, ignore_errors=True)

    def _digest(self, module: fx.GraphModule, key: str) -> str:
        """A digest of everything the IR depends on. It depends on neither the processor nor the precision."""
        versions = (self._openvino.__version__, torch.__version__, version("timm"))
        return hashlib.sha256("\n".join((key, *versions, str(module))).encode()).hexdigest()[:32]

    def _activation_bytes(self, model: Any, shapes: Sequence[Sequence[int]]) -> int:
        """An estimate of a program's memory for activations: those of its largest layer, in two memory layouts."""
        fixed = self._clone(model)
        fixed.reshape({fixed.inputs[index]: list(shape) for index, shape in enumerate(shapes)})
        largest = max(elements_of(node) for node in fixed.get_ordered_ops())
        return 2 * largest * self.dtype.itemsize * COUNTED_IMAGES // shapes[0][0]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One infer request: `request(inputs)`.

    Tensors are set one by one: OpenVINO's own handling of a list takes 0.15 ms more. Inputs are read in place; the
    output is copied out of the request's memory. Setting a tensor of ours as the output does not work for a model that
    returns its input unchanged: OpenVINO does not write to it (2026.4).
    """

    infer_request: Any
    tensor: Any  # openvino.Tensor

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        request = self.infer_request
        tensors = [self.tensor(_array(x), shared_memory=True) for x in inputs]
        for position, tensor in enumerate(tensors):
            request.set_input_tensor(position, tensor)
        request.infer(share_outputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())


class OpenVinoCompiled:
    """The result of OpenVino.compile.

    Most adapters do not change biases and norms, and OpenVINO fuses constant ones into the layers before them. So `run`
    has two programs: one takes matrices and kernels only; the other takes all weights, and is compiled when first used.
    """

    def __init__(self, executor: OpenVino, model: Any, base: tuple[Tensor, ...], activation_bytes: int) -> None:
        self._executor = executor
        self._model = model
        self._base = base
        self._activation_bytes = activation_bytes
        self._first = len(model.inputs) - len(base)  # the inputs come before the weights
        self._constants = constants_of(model)
        self._vectors = frozenset(index for index, weight in enumerate(base) if weight.ndim < 2)
        self._matrices = self._program(self._with(base, self._vectors), activation_bytes)

    @functools.cached_property
    def _all(self) -> OpenVinoProgram:
        return self._program(self._model, self._activation_bytes)

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        if all(weights[index] is self._base[index] for index in self._vectors):
            return self._matrices(*inputs, *(w for i, w in enumerate(weights) if i not in self._vectors))
        return self._all(*inputs, *weights)

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> OpenVinoProgram:
        program = self._bound(weights) if self._base else self._matrices
        if shapes:
            for samples in (1, 2):
                program.make_ready(tuple((samples, *shape[1:]) for shape in shapes))
        return program

    def bind_int8(
        self, weights: Sequence[Tensor], ranges: Mapping[int, Range], shapes: Sequence[Sequence[int]] = ()
    ) -> OpenVinoProgram:
        """See RoundsLayers."""
        program = self._bound(weights, ranges)
        for samples in (1, 2) if shapes else ():
            program.make_ready(tuple((samples, *shape[1:]) for shape in shapes))
        return program

    def _bound(self, weights: Sequence[Tensor], ranges: Mapping[int, Range] | None = None) -> OpenVinoProgram:
        model = self._with(weights, frozenset(range(len(weights))), ranges)
        packed = (2 + KEPT_EXACT) * self._executor.dtype.itemsize
        nbytes = (torch.float32.itemsize + packed) * sum(weight.numel() for weight in weights)
        return self._program(model, nbytes + packed * self._constants + self._activation_bytes)

    def _program(self, model: Any, nbytes: int) -> OpenVinoProgram:
        return OpenVinoProgram(self._executor, model, self._first, nbytes)

    def _with(
        self, weights: Sequence[Tensor], positions: frozenset[int], ranges: Mapping[int, Range] | None = None
    ) -> Any:
        """The model with these weights constant. All programs share the base's own tensors and never write to them."""
        constants = {self._first + index: weights[index] for index in positions}
        shared = frozenset(self._first + index for index in positions if weights[index] is self._base[index])
        rounded = {self._first + index: each for index, each in (ranges or {}).items()}
        return self._executor.with_constants(self._model, constants, shared, rounded)


@dataclass(frozen=True, slots=True, eq=False)
class OpenVinoProgram:
    """A program with two requests per image size: one for single images, one for any batch.

    Single images always use the same request, so the bits of their results never change. The requests of the most
    recently used sizes are kept. The first `free` inputs are those whose sizes change; the others are weights. The most
    frequent batch shape gets an exact request, made in the background: with exact shapes a batch takes a tenth less.
    """

    executor: OpenVino
    model: Any
    free: int
    nbytes: int
    requests: OrderedDict[Shapes, Request] = field(default_factory=OrderedDict)  # for one sample, or -1 for any number
    exact: dict[Shapes, Request | None] = field(default_factory=dict)  # None while it is being made
    seen: Counter[Shapes] = field(default_factory=Counter)

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(tuple(x.shape) for x in inputs[: self.free])
        request = self.exact.get(shapes) or self.make_ready(shapes)
        self._count(shapes)
        return request(inputs)

    def _count(self, shapes: Shapes) -> None:
        if shapes[0][0] > 1 and len(self.exact) < KEPT_EXACT and len(self.seen) < MOST_SEEN:
            self.seen[shapes] += 1
            if self.seen[shapes] == EXACT_AFTER:
                self.exact[shapes] = None  # set in the caller's thread, so that there are never more than KEPT_EXACT
                threading.Thread(target=self._make_exact, args=(shapes,), name="lensmount-exact").start()

    def _make_exact(self, shapes: Shapes) -> None:
        lower_priority(LOW)
        try:
            self.exact[shapes] = self.executor.request(self.model, shapes, samples=True)
        except RuntimeError:  # the request for any batch stays in use
            del self.exact[shapes]

    def make_ready(self, shapes: Shapes) -> Request:
        """The request for inputs of these shapes; it is compiled if there is none yet."""
        single = shapes[0][0] == 1
        key = shapes if single else tuple((-1, *shape[1:]) for shape in shapes)
        request = self.requests.get(key)
        if request is None:
            request = self.requests[key] = self.executor.request(self.model, shapes, samples=single)
            if len(self.requests) > KEPT_REQUESTS:
                self.requests.popitem(last=False)
        self.requests.move_to_end(key)
        return request


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report to Google Analytics from the first import on.

    Raises ExecutorUnavailable if OpenVINO is not installed.
    """
    silent = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if silent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None makes the import fail, so OpenVINO uses its stub
    try:
        import openvino
    except ImportError as error:
        fix = "Fix: pip install 'lensmount[openvino]'"
        raise ExecutorUnavailable(f"found no openvino, expected it for this executor. {fix}") from error
    finally:
        if silent:
            del sys.modules["openvino_telemetry"]
    return openvino


def _array(x: Tensor) -> Any:
    return x.detach().to("cpu", torch.float32).contiguous().numpy()
