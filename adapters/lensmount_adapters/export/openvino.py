"""The whole network as OpenVINO's IR, for Intel's processors."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExecutorUnavailable, ExportError
from lensmount_adapters.export.network import INPUT, OUTPUTS, Network
from lensmount_adapters.export.target import description, write_description
from lensmount_adapters.export.trace import check_same, example_of, not_convertible, traced
from lensmount_adapters.programs.openvino import import_openvino
from lensmount_adapters.programs.openvino_model import from_torch
from lensmount_adapters.programs.tracing import converting


class OpenVino:
    """`openvino.Core().read_model("DIR/model.xml")`: from `images` to `logits` and `scores`, in float32.

    The model's rt_info has the contents of lensmount.json as JSON under the key `lensmount`.
    """

    name = "openvino"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        try:
            openvino = import_openvino()
        except ExecutorUnavailable as error:
            raise ExportError(
                "openvino: found no openvino, expected it for this format. Fix: pip install 'lensmount[openvino]'",
                code="export_unavailable",
            ) from error
        network, images = Network(adapter, backbone), example_of(adapter, 3)
        module = traced(network, images[:2], self.name)
        with converting():
            try:
                model = from_torch(module, (images[:2],))
                model.reshape([-1, *images.shape[1:]])
                model.inputs[0].get_tensor().set_names({INPUT})
                for output, word in zip(model.outputs, OUTPUTS, strict=True):
                    output.get_tensor().set_names({word})
                model.set_rt_info(json.dumps(description(adapter), ensure_ascii=False), ["lensmount"])
                openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
                compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
                logits = torch.from_numpy(compiled(images.numpy())[0])
            except Exception as error:  # OpenVINO raises errors of many kinds
                raise not_convertible(self.name, error) from error
        check_same(self.name, network, images, logits)
        load = (
            "import openvino\n\n"
            'model = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})\n'
            'logits = model({"images": images})["logits"]  # images: as lensmount.json says'
        )
        write_description(adapter, folder, load, [])
        return []
