"""Every variant of PEFT on three networks, imported and compared with PEFT's own logits; prints a table.

    python benchmarks/foreign/imports.py [--networks resnet34,tf_efficientnet_lite0,vit_tiny_patch16_224] [--only LoRA]

Each adapter has random factors of the size that training gives. A number is the largest relative error of a logit's
vector against PEFT's live model in float32, over the networks. Where PEFT's live model differs from its own merged
weights, the merged weights count, and the row says so. Needs the extra `dev`; takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import timm
import torch
from peft.tuners.lora.config import BdLoraConfig
from torch import Tensor, nn

from lensmount_adapters import Backbone, ExactSwapper, Limits, admit, load_backbone
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.foreign.convert import convert

NETWORKS = "resnet34,tf_efficientnet_lite0,vit_tiny_patch16_224"
CLASSES = 5
SIZE = 0.01  # of the noise on what trains
LIMITS = Limits(max_file_bytes=2**30)  # the table is about exactness, not about size

Config = Callable[..., peft.PeftConfig]
LORA = partial(peft.LoraConfig, r=4, lora_alpha=6)
LINEAR_ONLY = "linear layers"
ANY: dict[str, Config] = {
    "LoRA": LORA,
    "LoRA, rsLoRA": partial(LORA, use_rslora=True),
    "LoRA, rank_pattern and alpha_pattern": partial(LORA, rank_pattern={".*1": 2}, alpha_pattern={".*2": 9}),
    "LoRA, init gaussian": partial(LORA, init_lora_weights="gaussian"),
    "LoRA, bias all": partial(LORA, bias="all"),
    "LoRA, bias lora_only": partial(LORA, bias="lora_only"),
    "DoRA": partial(LORA, use_dora=True),
    "LoHa": partial(peft.LoHaConfig, r=3, alpha=4),
    "LoHa, effective convolution": partial(peft.LoHaConfig, r=3, alpha=4, use_effective_conv2d=True),
    "LoKr": partial(peft.LoKrConfig, r=2, alpha=4),
    "LoKr, both products": partial(peft.LoKrConfig, r=2, alpha=4, decompose_both=True, decompose_factor=8),
    "LoKr, effective convolution": partial(peft.LoKrConfig, r=2, alpha=4, use_effective_conv2d=True),
    "HRA": partial(peft.HRAConfig, r=4, init_weights=False),
    "HRA, orthonormal": partial(peft.HRAConfig, r=4, apply_GS=True, init_weights=False),
    "OFT on kernels": partial(peft.OFTConfig, oft_block_size=8, r=0),
    "IA3": partial(peft.IA3Config, feedforward_modules=[]),
    "HiRA": partial(peft.HiraConfig, r=4),
}
LINEAR: dict[str, Config] = {
    "LoRA, init orthogonal": partial(LORA, init_lora_weights="orthogonal"),
    "LoRA, init MiCA": partial(LORA, init_lora_weights="mica"),
    "LoRA, init PiSSA": partial(LORA, init_lora_weights="pissa"),
    "LoRA, init OLoRA": partial(LORA, init_lora_weights="olora"),
    "LoRA, lora_bias": partial(LORA, lora_bias=True),
    "AdaLoRA": partial(peft.AdaLoraConfig, total_step=10, init_r=4, lora_alpha=6),
    "OFT": partial(peft.OFTConfig, oft_block_size=16, r=0),
    "OFT, exact inverse": partial(peft.OFTConfig, oft_block_size=16, r=0, use_cayley_neumann=False),
    "BOFT": partial(peft.BOFTConfig, boft_block_size=16),
    "RoAd": partial(peft.RoadConfig, group_size=16),
    "MiSS": partial(peft.MissConfig, r=4),
    "MiSS, bat": partial(peft.MissConfig, r=4, init_weights="bat"),
    "MiSS, mini": partial(peft.MissConfig, r=4, mini_r=4, init_weights="mini"),
    "SHiRA": partial(peft.ShiraConfig, r=4),
    "VeRA": partial(peft.VeraConfig, r=16),
    "RandLoRA": partial(peft.RandLoraConfig, r=16, randlora_alpha=1),
    "FourierFT": partial(peft.FourierFTConfig, n_frequency=200, scaling=10.0),
    "VB-LoRA": partial(peft.VBLoRAConfig, r=4, num_vectors=32, vector_length=16),
    "C3A": partial(peft.C3AConfig, block_size=16),
    "DeLoRA": partial(peft.DeloraConfig, r=4),
    "GraLoRA": partial(peft.GraloraConfig, r=8, gralora_k=4),
    "GraLoRA, hybrid": partial(peft.GraloraConfig, r=8, gralora_k=4, hybrid_r=4),
    "KaSA": partial(LORA, kasa_config=peft.KasaConfig()),
    "VeLoRA": partial(LORA, velora_config=peft.VeloraConfig()),
    "MonteCLoRA": partial(LORA, monteclora_config=peft.MontecloraConfig()),
    "BD-LoRA": partial(LORA, use_bdlora=BdLoraConfig(target_modules_bd_a=["fc1"], nblocks=2, match_strict=False)),
    "WaveFT, db1": partial(peft.WaveFTConfig, n_frequency=200, scaling=5.0),
    "WaveFT, db4": partial(peft.WaveFTConfig, n_frequency=200, scaling=5.0, wavelet_family="db4"),
    "GLoRA": partial(peft.GloraConfig, r=4),
    "DEFT": partial(peft.DeftConfig, r=4),
    "DEFT, qr": partial(peft.DeftConfig, r=4, decomposition_method="qr"),
    "PEANuT": partial(peft.PeanutConfig, r=4, depth=1),
    "OSF": partial(peft.OSFConfig, effective_rank=150),
    "FRoD": partial(peft.FrodConfig, progressbar=False),
    "Super-Tuning": partial(peft.SupertuningConfig, sparsity=0.99),
    "BEFT": peft.BeftConfig,
    "PVeRA": partial(peft.PveraConfig, r=16),
    "TinyLoRA": partial(peft.TinyLoraConfig, r=4, u=8),
    "UniLoRA": partial(peft.UniLoraConfig, r=4, theta_d_length=500, save_indices=True),
}


def targets(net: nn.Module, linear: bool, classifier: str) -> list[str]:
    """The layers that one variant adapts: dense ones without dilation, in the second half of the network."""
    kinds = (nn.Linear,) if linear else (nn.Linear, nn.Conv2d)
    names = [
        name
        for name, layer in net.named_modules()
        if isinstance(layer, kinds) and getattr(layer, "groups", 1) == 1 and name != classifier
    ]
    return names[len(names) // 2 :]


def norms(net: nn.Module) -> list[str]:
    return [name for name, layer in net.named_modules() if "Norm" in type(layer).__name__][-6:]


def network(name: str) -> tuple[Backbone, Any, str]:
    """The backbone, the same network with a classifier, and the classifier's name."""
    backbone = load_backbone(name, "random:0")
    torch.manual_seed(1)
    net = timm.create_model(name, num_classes=CLASSES).eval()
    net.load_state_dict(dict(backbone.tensors), strict=False)
    return backbone, net, str(net.pretrained_cfg["classifier"])


def error(backbone: Backbone, net: Any, config: peft.PeftConfig) -> tuple[float, float]:
    """The errors of the imported adapter against PEFT's live model, and against its merged weights."""
    model: Any = peft.get_peft_model(copy.deepcopy(net), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * SIZE)
    images = torch.randn(2, *backbone.preprocessing.input_shape)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.eval().save_pretrained(folder)
        live = model(images)
        merged = model.merge_and_unload().eval()(images)
        adapter = admit(convert(Path(folder), backbone, name="x", limits=LIMITS).data, backbone, LIMITS)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    found = adapter.logits(backbone.features(images))
    swapper.unmount()
    return _relative(found, live), _relative(found, merged)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    built = {name: network(name) for name in arguments.networks.split(",")}
    print("| method | layers | " + " | ".join(built) + " |\n|---|---|" + "---|" * len(built))
    for method, config in [*ANY.items(), *LINEAR.items(), ("LN_TUNING", peft.LNTuningConfig)]:
        if not any(part in method for part in arguments.only.split(",")):
            continue
        row = []
        for backbone, net, classifier in built.values():
            chosen = norms(net) if method == "LN_TUNING" else targets(net, method in LINEAR, classifier)
            try:
                if not chosen:
                    row.append("no such layer")
                    continue
                live, merged = error(backbone, net, config(target_modules=chosen, modules_to_save=[classifier]))
                row.append(f"{live:.0e}" if live < 1e-4 else f"{merged:.0e} (merged; live differs by {live:.0e})")
            except (LensmountError, ValueError, RuntimeError, TypeError, StopIteration) as refusal:
                row.append(f"{type(refusal).__name__}: {str(refusal)[:100]}")
        kind = "norms" if method == "LN_TUNING" else "linear" if method in LINEAR else "linear and convolution"
        print(f"| {method} | {kind} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
