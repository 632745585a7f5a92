"""Training time and accuracy: ours, PEFT in a plain PyTorch loop, and full fine-tuning, on the same images and splits.

Every contender gets the same backbone (EfficientNet-Lite0), data, split, image size and epochs. All adapters have the
same targets and rank. Each run is one line of JSON in `--out`, so an interrupted benchmark resumes where it stopped.

    ours    `lensmount train`, and once more with two thirds of the epochs and 3 views (short)
    peft    a plain loop: PEFT's LoRA, torchvision's augmentation from files in a DataLoader, AdamW, bfloat16 autocast
    full    every weight of the same network, BatchNorm in training mode; channels_last, bfloat16, our augmentation,
            mixup and CutMix (the fastest full fine-tuning that we could write)
    others  `lensmount train --method ...`

A contender whose name ends in ", short", such as "full, short", gets two thirds of the epochs.

    python benchmarks/training.py race --task malaria --rounds 3     ours and PEFT alternately
    python benchmarks/training.py table --task malaria --seeds 3     accuracy of every method
    python benchmarks/training.py show                               the tables of all finished runs
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peft
import torch
from PIL import Image
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.training_tables import show  # type: ignore[import-not-found]
from shared.training_tasks import METHODS, RACERS, SHORT, TASKS, Run  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from lensmount_adapters.augmentation.images import Augmentation, augment, cut_mix, mix
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.weights import create
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.fast_convolutions.depthwise import UnstridedDepthwise
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.schedule import learning_rate_at
from lensmount_adapters.training.train_adapter import train
from lensmount_adapters.training.training_data import TrainingData, load_training_data

DEFAULT_OUT = Path(__file__).parent / "training.jsonl"
FULL_RATE = 5e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["race", "table", "show"])
    parser.add_argument("--task", choices=TASKS, action="append")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    if options.what != "show":
        print(machine.describe())
        for task in options.task or TASKS:
            contenders = list(RACERS) if options.what == "race" else options.methods
            seeds = range(options.rounds if options.what == "race" else options.seeds)
            run_all(task, contenders, seeds, options)
    show(load(options.out))


def run_all(task: str, contenders: Sequence[str], seeds: Sequence[int], options: argparse.Namespace) -> None:
    """Contenders take turns within each seed, so other load on the machine affects all of them alike."""
    done = {(run.task, run.contender, run.seed) for run in load(options.out)}
    backbone = load_backbone()
    for seed in seeds:
        for contender in contenders if seed % 2 == 0 else reversed(contenders):
            if (task, contender, seed) in done:
                continue
            train_one: Callable[..., Run] = CONTENDERS.get(contender, ours)
            run = train_one(task, contender, seed, options, backbone)
            with options.out.open("a") as file:
                file.write(json.dumps(run.__dict__) + "\n")
            print(f"{task} {contender} seed {seed}: {run.seconds:.1f} s, test {run.test:.4f}", flush=True)


def load(path: Path) -> list[Run]:
    if not path.exists():
        return []
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()]


def config_of(task: str, contender: str, seed: int, options: argparse.Namespace, folder: Path) -> TrainingConfig:
    config = TrainingConfig(
        data=options.data / TASKS[task].folder,
        name="benchmark",
        out=folder / "benchmark.safetensors",
        seed=seed,
        threads=options.threads,
        precision="bfloat16",
        **{"validation_fraction": 0.2, "test_fraction": 0.2, **TASKS[task].settings},
    )
    return replace(config, epochs=2 * (config.epochs or 12) // 3, views=3) if contender.endswith(SHORT) else config


def ours(task: str, contender: str, seed: int, options: argparse.Namespace, backbone: Backbone) -> Run:
    """`lensmount train`, from the folder of images to the evaluated file."""
    method = "lora" if contender.startswith("ours") else contender.removesuffix(SHORT)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config_of(task, contender, seed, options, Path(folder)), method=method)
        started = time.perf_counter()
        result = train(config, backbone=backbone)
        seconds = time.perf_counter() - started
    assert result.test is not None
    assert result.validation is not None
    return Run(
        task, contender, seed, seconds, result.validation.balanced_accuracy, result.test.balanced_accuracy,
        result.record["trainable_parameters"], result.size_bytes,
    )  # fmt: skip


def peft_loop(task: str, contender: str, seed: int, options: argparse.Namespace, backbone: Backbone) -> Run:
    """The usual way: PEFT around a timm model, images from files through torchvision, one plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(task, contender, seed, options, Path(folder))
    assert config.augment in ("photo", "microscopy"), "the plain loop has no other augmentation"
    assert not config.mixup + config.cutmix, "the plain loop has no mixup or CutMix"
    started = time.perf_counter()
    data = load_training_data(config, backbone)  # only for the split; its time is subtracted below
    reading = time.perf_counter() - started
    torch.manual_seed(seed)
    network: Any = with_head(len(data.folder.classes))
    selection = select_targets(backbone.name, backbone.targets, "lora")
    targets = [target.module for target in selection.low_rank]
    model = peft.get_peft_model(
        network,
        peft.LoraConfig(
            r=config.rank, lora_alpha=2 * config.rank, target_modules=targets, modules_to_save=["classifier"]
        ),
    )
    parameters = [p for p in model.parameters() if p.requires_grad]

    def batches(part: str, augmented: bool) -> DataLoader[Any]:
        files = Files(data, part, transforms(config, data, augmented))
        return DataLoader(files, batch_size=config.batch_size, shuffle=augmented, num_workers=0)

    training, validation, test = batches("train", True), batches("validation", False), batches("test", False)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        return iter(training)

    return loop(
        Loop(task, contender, seed, model, parameters, config, started + reading, model),
        data,
        epoch,
        lambda: validation,
        lambda: test,
        steps=len(training),
        rate=config.learning_rate,
        frozen_norms=True,
    )


def full_loop(task: str, contender: str, seed: int, options: argparse.Namespace, backbone: Backbone) -> Run:
    """Every weight of the same network trains."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(task, contender, seed, options, Path(folder))
    started = time.perf_counter()
    data = load_training_data(config, backbone)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = with_head(len(data.folder.classes)).to(memory_format=torch.channels_last)
    steps = max(1, round(len(data.train_labels) / config.batch_size))

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(data.train_labels), generator=generator)
        for indices in order.tensor_split(steps):
            assert isinstance(data.train.rule, Augmentation), "this benchmark supports images only"
            pixels = augment(data.train.pixels[indices], data.train.rule, data.preprocessing.size, generator)
            soft = F.one_hot(data.train_labels[indices], len(data.folder.classes)).float()
            x, soft = mix(normalise(pixels, data.preprocessing), soft, config.mixup, generator)
            yield cut_mix(x, soft, config.cutmix, generator)

    files = Files(data, "test", transforms(config, data, False))
    validation = torch.split(torch.arange(len(data.validation_labels)), 32)

    def forward(x: Tensor) -> Tensor:
        with UnstridedDepthwise():
            found: Tensor = network(x.to(memory_format=torch.channels_last))
            return found

    return loop(
        Loop(task, contender, seed, network, list(network.parameters()), config, started, forward),
        data,
        epoch,
        lambda: (
            (normalise(data.validation.pixels[i], data.preprocessing), data.validation_labels[i]) for i in validation
        ),
        lambda: DataLoader(files, batch_size=32),
        steps=steps,
        rate=FULL_RATE,
        frozen_norms=False,
    )


CONTENDERS: dict[str, Callable[..., Run]] = {"peft": peft_loop, "full": full_loop, "full, short": full_loop}


@dataclass
class Loop:
    """The state of a plain loop."""

    task: str
    contender: str
    seed: int
    model: nn.Module
    parameters: list[Tensor]
    config: TrainingConfig
    started: float
    forward: Callable[[Tensor], Tensor]


def loop(
    own: Loop,
    data: TrainingData,
    epoch: Callable[[], Any],
    validation: Callable[[], Any],
    test: Callable[[], Any],
    *,
    steps: int,
    rate: float,
    frozen_norms: bool,
) -> Run:
    config, labels = own.config, data.folder.classes
    assert config.epochs is not None
    optimizer = torch.optim.AdamW(own.parameters, lr=rate, weight_decay=config.weight_decay)
    validated = 0.0
    step = 0
    for _ in range(config.epochs):
        own.model.train(not frozen_norms)
        for x, y in epoch():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, config.epochs * steps, rate, config.warmup)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(own.forward(x).float(), y, label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            step += 1
        validated = accuracy_of(own, validation(), labels)  # in each epoch, as ours does
    tested = accuracy_of(own, test(), labels)
    trained = sum(p.numel() for p in own.parameters)
    return Run(
        own.task, own.contender, own.seed, time.perf_counter() - own.started, validated, tested, trained,
        4 * trained,
    )  # fmt: skip


def accuracy_of(own: Loop, batches: Any, labels: Sequence[str]) -> float:
    own.model.eval()
    scores, truth = [], []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for x, y in batches:
            scores.append(own.forward(x).float().softmax(1))
            truth.append(y)
    return measure(torch.cat(truth), torch.cat(scores), labels).balanced_accuracy


def with_head(classes: int) -> nn.Module:
    backbone = create("tf_efficientnet_lite0", None)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.classifier = nn.Linear(1280, classes)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.classifier(self.backbone(x))
            return found

    return Network()


class Files(Dataset[tuple[Tensor, int]]):
    """Images from disk, decoded and augmented at each access."""

    def __init__(self, task: TrainingData, part: str, transform: Callable[[Any], Tensor]) -> None:
        self._samples = task.samples(part)
        self._root = task.folder.root
        self._transform = transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self._samples[index]
        with Image.open(self._root / sample.path) as image:
            return self._transform(image.convert("RGB")), sample.label


def transforms(config: TrainingConfig, task: TrainingData, augmented: bool) -> Callable[[Any], Tensor]:
    rule = task.preprocessing
    assert isinstance(rule, Preprocessing), "this benchmark supports images only"
    side = rule.size[0]
    shape: list[Any]
    if not augmented:
        shape = [v2.Resize(round(side / rule.crop_fraction)), v2.CenterCrop(side)]
        shape = [v2.Resize((side, side))] if config.resize == "squash" else shape
    elif config.augment == "photo":
        shape = [v2.RandomResizedCrop(side, (0.5, 1.0)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.25, 0.25, 0.25)]
    else:
        shape = [
            v2.RandomResizedCrop(side, (0.7, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(0.25, 0.25, 0.25),
        ]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(rule.mean), list(rule.std))]
    composed: Callable[[Any], Tensor] = v2.Compose([*shape, *last])
    return composed


if __name__ == "__main__":
    main()
