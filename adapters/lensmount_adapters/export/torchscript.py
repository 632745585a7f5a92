"""The whole network as TorchScript, which C++ programs load without Python."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.export.network import Network
from lensmount_adapters.export.target import DESCRIPTION, description, write_description
from lensmount_adapters.export.trace import check_same, example_of, traced
from lensmount_adapters.programs.tracing import converting


class TorchScript:
    """`torch.jit.load("DIR/model.pt")(images)` gives logits and scores; the file's extra file is lensmount.json."""

    name = "torchscript"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        network, images = Network(adapter, backbone), example_of(adapter, 3)
        module = traced(network, images[:2], self.name)
        with converting():
            check_same(self.name, network, images, module(images)[0])
            text = json.dumps(description(adapter), ensure_ascii=False)
            torch.jit.save(module, folder / "model.pt", _extra_files={DESCRIPTION: text})
        load = 'import torch\n\nlogits, scores = torch.jit.load("model.pt")(images)  # images: as lensmount.json says'
        write_description(adapter, folder, load, [])
        return []
