"""Logits of exported adapters, computed by the library of each format, against those of the mounted adapter.

    python benchmarks/foreign/exports.py            the table of docs/adapters.md, in a minute or two

Each network gets a random adapter: low-rank factors of rank 8 on every ungrouped linear layer and convolution. The
number is the largest difference of a logit on four random images, relative to the largest logit, in float32. A format
whose library is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, ExactSwapper, Manifest, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.export import export_adapter

NETWORKS = (("resnet34", "random:0"), ("tf_efficientnet_lite0", None), ("vit_base_patch32_clip_224", "random:0"))
CLASSES, RANK = 5, 8


def random_adapter(backbone: Backbone) -> Adapter:
    """Each delta is a tenth of its weight in Frobenius norm."""
    draw = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Factors] = {}
    for target in backbone.targets.values():
        if target.layer not in (Layer.LINEAR, Layer.CONV) or target.groups > 1 or not target.name.endswith(".weight"):
            continue
        ones = [1] * (len(target.shape) - 2)
        A = torch.randn(RANK, *target.shape[1:], generator=draw)
        B = torch.randn(target.shape[0], RANK, *ones, generator=draw)
        size = 0.1 * backbone.tensors[target.name].norm() / (B.flatten(1) @ A.flatten(1)).norm()
        tensors |= {f"{target.module}.lora_A.weight": A, f"{target.module}.lora_B.weight": B * size}
        modules[target.module] = Factors(rank=RANK, alpha=float(RANK))
    tensors["head.weight"] = torch.randn(CLASSES, backbone.feature_dim, generator=draw)
    tensors["head.bias"] = torch.randn(CLASSES, generator=draw)
    manifest = Manifest(
        name="random",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=tuple("abcde"),
        head=LinearHead(temperature=1.7),
        modules=modules,
    )
    return admit(dump_adapter(manifest, tensors, torch.float32), backbone)


def base_of(backbone: Backbone, classes: int) -> nn.Module:
    model: nn.Module = timm.create_model(backbone.name, num_classes=classes)
    model.load_state_dict(backbone.module.state_dict(), strict=False)
    return model.eval()


def by_peft(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    import peft

    logits: Tensor = peft.PeftModel.from_pretrained(base_of(backbone, CLASSES), folder).eval()(x)
    return logits


def by_lycoris(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    import safetensors.torch
    from lycoris import create_lycoris_from_weights

    model = base_of(backbone, 0)
    create_lycoris_from_weights(1.0, str(folder / "random.safetensors"), model)[0].merge_to(1.0)
    return nn.functional.linear(model(x), **safetensors.torch.load_file(folder / "head.safetensors"))


def by_timm(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    path = folder / "model.safetensors"
    logits: Tensor = timm.create_model(backbone.name, num_classes=CLASSES, checkpoint_path=path).eval()(x)
    return logits


def by_onnx(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def by_openvino(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    import openvino

    model = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(model({"images": x.numpy()})["logits"])


def by_torchscript(folder: Path, backbone: Backbone, x: Tensor) -> Tensor:
    logits: Tensor = torch.jit.load(folder / "model.pt")(x)[0]  # type: ignore[no-untyped-call]  # torch's
    return logits


READERS: dict[str, tuple[str, Callable[[Path, Backbone, Tensor], Tensor]]] = {
    "peft": ("peft", by_peft),
    "lycoris": ("lycoris", by_lycoris),
    "timm": ("timm", by_timm),
    "onnx": ("onnxruntime", by_onnx),
    "openvino": ("openvino", by_openvino),
    "torchscript": ("torch", by_torchscript),
}


def error_of(to: str, adapter: Adapter, backbone: Backbone, x: Tensor, expected: Tensor) -> str:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        try:
            export_adapter(adapter, backbone, to, Path(folder, "out"))
        except ExportError as error:
            return f"refused: {error}"
        found = READERS[to][1](Path(folder, "out"), backbone, x)
    return f"{float((found - expected).abs().max() / expected.abs().max()):.0e}"


def main() -> None:
    warnings.simplefilter("ignore")  # of the libraries, about their own deprecations
    formats = [to for to, (module, _) in READERS.items() if importlib.util.find_spec(module)]
    print("| network |", " | ".join(formats), "|")
    print("|---" * (len(formats) + 1) + "|")
    for name, weights in NETWORKS:
        backbone = load_backbone(name, weights)
        adapter = random_adapter(backbone)
        x = torch.randn(4, *backbone.preprocessing.input_shape, generator=torch.Generator().manual_seed(1))
        swapper: Any = ExactSwapper(backbone)
        swapper.mount(adapter)
        expected = adapter.image_logits(backbone, x).clone() / adapter.manifest.head.temperature
        swapper.unmount()
        errors = [error_of(to, adapter, backbone, x, expected) for to in formats]
        print(f"| {name} |", " | ".join(errors), "|", flush=True)


if __name__ == "__main__":
    main()
