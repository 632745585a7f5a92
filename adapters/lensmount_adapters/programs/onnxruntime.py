"""Programs for CPUs by ONNX Runtime, in float32: a module is exported once, and a session takes tens of milliseconds.

Every weight is an input of the model. A bound program has initializers in their place, which ONNX Runtime packs once.
A session is made for each image size, because TensorFlow's padding is computed from it; the batch stays free.

Only choose.py knows this file, and only by its name. Without the file the executor `onnxruntime` is not offered.
"""

from __future__ import annotations

import copy
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs.tracing import converting

KEPT_SESSIONS = 8  # per program: one for each image size
WARNINGS_OFF = 3  # ONNX Runtime's level for errors alone

Sizes = tuple[tuple[int, ...], ...]  # of each input, without its samples


class OnnxRuntime:
    """`OnnxRuntime("cpu", torch.float32, threads=1).compile(module, inputs, weights, key="")`.

    Exporting takes a second, so nothing is kept on disk and `key` is ignored. Raises ExecutorUnavailable without
    ONNX Runtime, and for other precisions: its convolutions on CPUs have float32 alone.
    """

    name = "onnxruntime"

    def __init__(
        self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, threads: int = 1
    ) -> None:
        missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
        if missing:
            raise ExecutorUnavailable(
                f"found no {' and no '.join(missing)}, expected it for this executor. "
                "Fix: pip install 'lensmount[onnxruntime]'"
            )
        if torch.device(device).type != "cpu" or dtype is not torch.float32:
            found = f"device {device} and precision {str(dtype).removeprefix('torch.')}"
            raise ExecutorUnavailable(
                f"found {found}, expected cpu and float32 for onnxruntime. Fix: the executor auto"
            )
        self.dtype = dtype
        self._threads = threads

    def compile(
        self, module: fx.GraphModule, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: str
    ) -> OnnxCompiled:
        example = tuple(_plain(tensor).clone() for tensor in (*inputs, *weights))
        names = [f"x{index}" for index in range(len(inputs))] + [f"w{index}" for index in range(len(weights))]
        free = {name: {dim: _free(name, dim) for dim in range(x.ndim)} for name, x in zip(names, inputs, strict=False)}
        written = io.BytesIO()
        with converting():
            try:
                torch.onnx.export(  # the exporter that traces: it takes a second, and image sizes stay free
                    copy.deepcopy(module).eval().requires_grad_(False),
                    example,
                    written,  # type: ignore[arg-type]  # the exporter that traces takes a file in memory as well
                    input_names=names,
                    output_names=["y"],
                    dynamic_axes=free,
                    dynamo=False,
                )
            except Exception as error:  # exporting runs the model's own code, which may raise anything
                raise BackboneError(
                    f"ONNX Runtime cannot take this backbone: {' '.join(str(error).split())[:400]}. "
                    "Fix: the executor eager"
                ) from error
        return OnnxCompiled(self, written.getvalue(), tuple(weights), len(inputs))

    def session(self, model: bytes, sizes: Sizes) -> Any:
        """A session for inputs of these sizes, with any number of samples."""
        import onnxruntime  # here, because a server that chose another executor has no use for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = WARNINGS_OFF
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes use the cores too
        for index, size in enumerate(sizes):
            for dim, length in enumerate(size, start=1):
                options.add_free_dimension_override_by_name(_free(f"x{index}", dim), length)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxCompiled:
    """A function of inputs and weights, and programs with weights inside. See `Compiled`."""

    def __init__(self, executor: OnnxRuntime, model: bytes, base: Sequence[Tensor], inputs: int) -> None:
        self._executor = executor
        self._model = model
        self._base = tuple(base)
        self._arrays = [_array(weight) for weight in base]
        self._unbound = OnnxProgram(executor, model, inputs, len(model))

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        known = zip(weights, self._base, self._arrays, strict=True)
        arrays = [array if weight is base else _array(weight) for weight, base, array in known]
        return self._unbound.call(inputs, arrays)

    def bind(self, weights: Sequence[Tensor], shapes: Sequence[Sequence[int]] = ()) -> OnnxProgram:
        import onnx

        model = onnx.load_model_from_string(self._model)
        free = [value for value in model.graph.input if value.name.startswith("x")]
        del model.graph.input[:]  # what is an input may be overridden, so it would not be packed
        model.graph.input.extend(free)
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(_array(weight), f"w{index}") for index, weight in enumerate(weights)
        )
        content = model.SerializeToString()
        # the content, the session's own weights, and those that it packed
        program = OnnxProgram(self._executor, content, len(free), 3 * len(content))
        if shapes:
            program.make_ready(tuple(tuple(shape[1:]) for shape in shapes))
        return program


@dataclass(frozen=True, slots=True, eq=False)
class OnnxProgram:
    """A model with a session per image size; those of the sizes used last are kept. Its first `free` inputs change."""

    executor: OnnxRuntime
    model: bytes
    free: int
    nbytes: int
    sessions: OrderedDict[Sizes, Any] = field(default_factory=OrderedDict)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.call(inputs, ())

    def call(self, inputs: Sequence[Tensor], weights: Sequence[np.ndarray]) -> Tensor:
        """Run with weights as further inputs. The output is a new tensor."""
        session = self.make_ready(tuple(tuple(x.shape[1:]) for x in inputs[: self.free]))
        fed = {f"x{index}": _array(x) for index, x in enumerate(inputs)}
        fed |= {f"w{index}": weight for index, weight in enumerate(weights)}
        used = {value.name for value in session.get_inputs()}  # a weight that changes nothing is left out by the export
        (output,) = session.run(None, {name: array for name, array in fed.items() if name in used})
        return torch.from_numpy(output)

    def make_ready(self, sizes: Sizes) -> Any:
        """The session for inputs of these sizes; it is made if there is none yet."""
        with self._making:
            if sizes not in self.sessions:
                self.sessions[sizes] = self.executor.session(self.model, sizes)
                if len(self.sessions) > KEPT_SESSIONS:
                    self.sessions.popitem(last=False)
            self.sessions.move_to_end(sizes)
            return self.sessions[sizes]


def _free(name: str, dim: int) -> str:
    return "samples" if dim == 0 else f"{name}_{dim}"


def _plain(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float32).contiguous()


def _array(x: Tensor) -> np.ndarray:
    array: np.ndarray = _plain(x).numpy()
    return array
