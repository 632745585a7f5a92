"""The whole network as ONNX, which many runtimes load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.export.network import INPUT, OUTPUTS, Network
from lensmount_adapters.export.target import description, write_description
from lensmount_adapters.export.trace import check_same, example_of, not_convertible, not_installed
from lensmount_adapters.programs.tracing import converting


class Onnx:
    """`onnxruntime.InferenceSession("DIR/model.onnx")`: from `images` to `logits` and `scores`, in float32.

    The model's metadata has the contents of lensmount.json as JSON under the key `lensmount`.
    """

    name = "onnx"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        try:
            import onnxruntime
            import onnxscript  # noqa: F401  # torch.onnx needs it
        except ImportError as error:
            raise not_installed(self.name, error) from error
        network, images = Network(adapter, backbone), example_of(adapter, 3)
        program = _converted(network, images[:2])
        program.model.metadata_props["lensmount"] = json.dumps(description(adapter), ensure_ascii=False)
        program.save(folder / "model.onnx", external_data=False)
        del program
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        check_same(self.name, network, images, torch.from_numpy(session.run(["logits"], {INPUT: images.numpy()})[0]))
        load = (
            'import onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")\n'
            'logits, scores = session.run(None, {"images": images})  # images: as lensmount.json says'
        )
        write_description(adapter, folder, load, [])
        return []


def _converted(network: Network, example: Tensor) -> Any:
    """The ONNX program. Its batch is free, its image size fixed. Raises ExportError."""
    with converting():
        try:
            return torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # exporting runs the network's own code, which may raise anything
            raise not_convertible("onnx", error) from error
