"""A mixed batch of 16 adapters imported from PEFT, compared with 16 native ones of the same rank and modules.

The native adapters and the rest of the setting are those of engine.py. Their factors are put into PEFT's own model,
saved with `save_pretrained` and imported. Both are asked alternately through one runner, and their scores must be
equal. Ratios are taken within a round.

    hot     16 images of 16 adapters, the merged weights of all resident
    cold    the same with factors only, the batch that one program computes

    python benchmarks/imported.py [--rounds 15] [--threads 1] [--backbones tf_efficientnet_lite0 resnet34]
                                  [--ways hot cold] [--results]

Needs the extra `dev`. ResNet34 needs 7 GB for the 32 adapters that are hot.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import timm
import torch
from engine import BATCH, Question, Stopwatch, warmed  # type: ignore[import-not-found]
from shared import machine, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.contenders import ADAPTED, CLASSES, RANK, draw_adapters  # type: ignore[import-not-found]

from lensmount_adapters import Adapter, Backbone, admit, load_backbone
from lensmount_adapters.delta.kinds import LowRank
from lensmount_adapters.foreign.convert import convert
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.segment_runner import SegmentRunner

HOT_BYTES = {"hot": 2**33, "cold": 0}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # of a score between 0 and 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--backbones", nargs="+", default=list(ADAPTED), choices=list(ADAPTED))
    parser.add_argument("--ways", nargs="+", default=list(HOT_BYTES), choices=list(HOT_BYTES))
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--precision", default="auto")
    results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    print(results.described())
    rows: list[Any] = []
    with TemporaryDirectory() as cache:
        for name in options.backbones:
            executor = choose_executor(options.executor, options.precision, "cpu", options.threads, Path(cache))
            print(f"\n{name}: {executor.name} {executor.dtype}, {options.threads} threads")
            weights, modules, _ = ADAPTED[name]
            backbone = load_backbone(name, weights)
            native = draw_adapters(backbone, modules, BATCH)
            imported = through_peft(backbone, native)
            for way in options.ways:
                rows += compared(f"{name}, 16 {way}", backbone, executor, (native, imported), way, options.rounds)
    results.finish("imported", rows, options.results)


def through_peft(backbone: Backbone, adapters: Sequence[Adapter]) -> list[Adapter]:
    """The same adapters as PEFT saves them, imported for the backbone."""
    modules = [delta.target.module for delta in adapters[0].deltas]
    network: Any = timm.create_model(backbone.name, num_classes=CLASSES).eval()
    classifier = network.pretrained_cfg["classifier"]
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=modules, modules_to_save=[classifier])
    model: Any = peft.get_peft_model(network, config)
    imported = []
    for number, adapter in enumerate(adapters):
        tensors = {f"base_model.model.{classifier}.{part}": value for part, value in adapter.head.state_dict().items()}
        for delta in adapter.deltas:
            assert isinstance(delta, LowRank)
            tensors[f"base_model.model.{delta.target.module}.lora_A.weight"] = delta.A
            tensors[f"base_model.model.{delta.target.module}.lora_B.weight"] = delta.B * delta.scale
        unknown = peft.set_peft_model_state_dict(model, tensors).unexpected_keys
        assert not unknown, unknown
        with TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            imported.append(admit(convert(Path(folder), backbone, name=f"imported-{number}").data, backbone))
    return imported


def compared(
    what: str,
    backbone: Backbone,
    executor: Executor,
    adapters: tuple[Sequence[Adapter], Sequence[Adapter]],
    way: str,
    rounds: int,
) -> list[Any]:
    """Images per second of both, and their ratio."""
    images = torch.randn(BATCH, *backbone.preprocessing.input_shape)
    native, imported = (
        [Question(adapter, image) for adapter, image in zip(own, images, strict=True)] for own in adapters
    )
    runner = warmed(SegmentRunner(backbone, executor, hot_bytes=HOT_BYTES[way]), [native, imported])
    scores = [torch.stack(runner.scores(batch).scores) for batch in (native, imported)]
    difference = float((scores[0] - scores[1]).abs().max())
    assert difference < TOLERANCE[executor.dtype], f"the scores differ by {difference}"
    modes = [dict(runner.scores(batch).modes) for batch in (native, imported)]
    print(f"{what}: largest difference of a score {difference:.1e}; computed as {modes[0]} and {modes[1]}")
    watch = Stopwatch()
    watch.take(rounds, {"native": lambda: runner.scores(native), "imported": lambda: runner.scores(imported)})
    runner.close()
    rate = {name: [BATCH / seconds for seconds in values] for name, values in watch.seconds.items()}
    return [
        *(results.Row.of(f"{what}, {name}", values, "images/s") for name, values in rate.items()),
        results.ratios(f"{what}: imported / native", rate["imported"], rate["native"], "at least 0.95"),
    ]


if __name__ == "__main__":
    main()
