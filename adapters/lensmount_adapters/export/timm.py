"""A merged network as timm saves it: model.safetensors and config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import save_for_hf

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.export.classifier import classified
from lensmount_adapters.export.target import GRAPHS, cannot_hold, write_description
from lensmount_adapters.inputs.rules import Preprocessing


class Timm:
    """`timm.create_model("resnet34", num_classes=2, checkpoint_path="DIR/model.safetensors")`, or "local-dir:DIR"."""

    name = "timm"

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        rule = adapter.manifest.preprocessing
        network = classified(adapter, backbone, self.name)
        config, notes = _input_config(rule, self.name)
        model_config = {"label_names": list(adapter.manifest.labels), "pretrained_cfg": config}
        model_args = {word: value for word, value in network.options.items() if word != "num_classes"}
        save_for_hf(network.model, str(folder), model_config, model_args=model_args, safe_serialization=True)
        load = (
            "import timm\n\n"
            f"model = timm.create_model({f'local-dir:{adapter.manifest.name}-timm'!r}, pretrained=True)\n"
            "transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))\n"
            "logits = model.eval()(transform(image)[None])  # image: PIL, RGB"
        )
        write_description(adapter, folder, load, notes)
        return notes


def _input_config(rule: Any, to: str) -> tuple[dict[str, Any], list[str]]:
    """The rule in timm's words, and what differs. Raises ExportError for a border, which timm fills with grey."""
    assert isinstance(rule, Preprocessing)
    if rule.resize == "pad":
        raise cannot_hold(to, "an input with a black border (resize pad)", "resize crop or squash", GRAPHS)
    config = {
        "input_size": rule.input_shape,
        "mean": rule.mean,
        "std": rule.std,
        "interpolation": rule.interpolation,
        "crop_mode": "squash" if rule.resize == "squash" else "center",
        "crop_pct": 1.0 if rule.resize == "squash" else rule.crop_fraction,
    }
    if rule.resize == "squash":
        return config, []
    return config, [
        "timm scales the image to whole pixels and then crops it, Lensmount crops first: the same area, other rounding"
    ]
