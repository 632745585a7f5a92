"""A format that another tool loads, and the checks that several formats share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.inputs.rules import Preprocessing

GRAPHS = "onnx, openvino or torchscript"
DESCRIPTION = "lensmount.json"


class Target(Protocol):
    """A format: `Peft().write(adapter, backbone, folder)`."""

    name: str

    def write(self, adapter: Adapter, backbone: Backbone, folder: Path) -> list[str]:
        """Write the format's files into an empty folder. The backbone is read only, whatever is mounted on it.

        Returns what a user has to know about these files, one sentence each. The logits of the files are those of the
        adapter divided by its temperature, so their softmax (or sigmoid) gives the server's scores.
        Raises ExportError, which names another format, if this one cannot hold the adapter.
        """
        ...


def cannot_hold(to: str, found: str, expected: str, instead: str) -> ExportError:
    """The refusal of one format, with another one as its fix."""
    return ExportError(f"{to}: found {found}, expected {expected}. Fix: export to {instead}")


def linear_head(adapter: Adapter, to: str) -> tuple[Tensor, Tensor]:
    """The weight [classes, features] and the bias [classes] of a linear head, divided by its temperature, float32.

    Raises ExportError for any other head, and for an average over orientations, which a linear layer cannot hold.
    """
    head, rule = adapter.manifest.head, adapter.manifest.preprocessing
    if not isinstance(head, LinearHead):
        raise cannot_hold(to, f"a head of kind {head.kind}", "a linear head", GRAPHS)
    if rule.orientations != 1:
        found = f"logits that are averaged over {rule.orientations} orientations"
        raise cannot_hold(to, found, "one orientation", GRAPHS)
    if not isinstance(rule, Preprocessing):
        raise cannot_hold(to, "an adapter for volumes", "one for images", GRAPHS)
    tensors = {name: tensor.detach().cpu() / head.temperature for name, tensor in adapter.head.state_dict().items()}
    return tensors["weight"], tensors["bias"]


def description(adapter: Adapter) -> dict[str, Any]:
    """What a program has to know to use the exported network: labels, input rule, activation, and where it is from."""
    manifest = adapter.manifest
    return {
        "name": manifest.name,
        "digest": adapter.digest,
        "backbone": manifest.backbone.model_dump(mode="json"),
        "labels": list(manifest.labels),
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
        "activation": manifest.head.activation,
        "threshold": getattr(manifest.head, "threshold", None),
        "temperature_applied": manifest.head.temperature,
        "license": manifest.license,
        "description": manifest.description,
    }


def base_weights(adapter: Adapter) -> str:
    """A comment for lines that load a base model of timm: which weights it must have, and where they are."""
    name = adapter.manifest.backbone.name
    return f"# its weights must be those of lensmount_adapters.load_backbone({name!r}, ...).module"


def write_description(adapter: Adapter, folder: Path, how_to_load: str, notes: list[str]) -> None:
    """Write lensmount.json, and a README.md with the lines of code that load the files."""
    text = json.dumps(description(adapter) | {"notes": notes}, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    backbone = adapter.manifest.backbone
    lines = [
        f"# {adapter.manifest.name}",
        "",
        f"An adapter of Lensmount ({adapter.digest}) on the backbone `{backbone.name}` ({backbone.fingerprint}).",
        "The logits are already divided by the adapter's temperature.",
        f"`{DESCRIPTION}` has the labels in order and the rule from an image to the input.",
        "",
        "```python",
        how_to_load.strip(),
        "```",
        *([""] if notes else []),
        *(f"* {note}" for note in notes),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
