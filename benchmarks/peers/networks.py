"""The whole networks that the peers serve, run by what a user would pick: PyTorch, OpenVINO or ONNX Runtime.

The weights are random: they are as fast as trained ones. OpenVINO and ONNX Runtime use their own defaults, apart from
the number of threads; OpenVINO computes in bfloat16 where the processor has it. `onnxruntime-int8` is quantised
statically, with per-channel weights and drawn images, because only its speed is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import timm.data
import torch
from torch import Tensor, nn

Network = Callable[[Tensor], Tensor]  # images [n, 3, height, width] -> scores [n, classes]

CALIBRATION = 8  # drawn images


def transform_of(backbone: str) -> Callable[[Any], Tensor]:
    """What timm does with an image before the network."""
    config = timm.data.resolve_model_data_config(timm.create_model(backbone))
    transform: Callable[[Any], Tensor] = timm.data.create_transform(**config, is_training=False)
    return transform


def network_of(engine: str, backbone: str, classes: int, threads: int) -> Network:
    torch.set_num_threads(threads)
    model = timm.create_model(backbone, num_classes=classes).eval()
    height, width = timm.data.resolve_model_data_config(model)["input_size"][1:]
    return ENGINES[engine](model, torch.randn(CALIBRATION, 3, height, width), threads)


def with_torch(model: nn.Module, images: Tensor, threads: int) -> Network:
    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(x).softmax(-1)  # type: ignore[no-any-return]

    return run


def with_openvino(model: nn.Module, images: Tensor, threads: int) -> Network:
    import openvino as ov

    converted = ov.convert_model(model, example_input=images[:1])
    converted.reshape({converted.inputs[0]: [-1, *images.shape[1:]]})
    compiled = ov.Core().compile_model(converted, "CPU", {"INFERENCE_NUM_THREADS": threads})
    # A request for each call, because the pools of threads of the servers call it at a time.
    return lambda x: torch.from_numpy(compiled.create_infer_request().infer([x.numpy()])[0]).softmax(-1)


def with_onnxruntime(model: nn.Module, images: Tensor, threads: int) -> Network:
    with TemporaryDirectory() as folder:
        return _session(_exported(model, images, Path(folder)), threads)


def with_onnxruntime_int8(model: nn.Module, images: Tensor, threads: int) -> Network:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Drawn(CalibrationDataReader):  # type: ignore[misc]  # an untyped base class
        def __init__(self) -> None:
            self._left = iter(torch.split(images, 1))

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {"x": image.numpy()}

    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(_exported(model, images, Path(folder)), path, Drawn(), per_channel=True)
        return _session(path, threads)


def _exported(model: nn.Module, images: Tensor, folder: Path) -> Path:
    path = folder / "float.onnx"
    axes = {"x": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        model, (images[:2],), path, input_names=["x"], output_names=["logits"], dynamic_axes=axes, dynamo=False
    )
    return path


def _session(path: Path, threads: int) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]).softmax(-1)


ENGINES: dict[str, Callable[[nn.Module, Tensor, int], Network]] = {
    "torch": with_torch,
    "openvino": with_openvino,
    "onnxruntime": with_onnxruntime,
    "onnxruntime-int8": with_onnxruntime_int8,
}
