"""Are the promises of a file kept? Coverage of sets over 200 splits, calibration error, and answers at 99 % accuracy.

Each data set is trained once with cross-fitting, and its logits are kept: those of the training images by networks that
did not see them, and those of the test part by the network that is served. The table is computed from these in seconds.

    python benchmarks/trust.py run --data ../shared/data [--only malaria-nih]
    python benchmarks/trust.py show        the table of all finished runs
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.training.answer import served_logits
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.cross_fitting import cross_fitted_logits
from lensmount_adapters.training.loop import TrainingLoop, silent
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.result import manifest_of
from lensmount_adapters.training.training_data import load_training_data
from lensmount_adapters.trust.conformal import fit_conformal, label_sets
from lensmount_adapters.trust.figures import figures
from lensmount_adapters.trust.fit import folds_of
from lensmount_adapters.trust.scaling import fit_scaling
from lensmount_adapters.trust.selective import fit_selective

OUT = Path(__file__).parents[1] / "build" / "trust"
SPLITS, COVERAGE, ACCURACY = 200, 0.95, 0.99
COMMON: dict[str, Any] = {"validation_fraction": 0.1, "test_fraction": 0.3, "batch_size": 16, "cache_trunk": "on"}
TASKS: dict[str, dict[str, Any]] = {
    "malaria-nih": {"group_regex": r"^(.*?)_?[tT]hin", "augment": "microscopy", "size": 160, "epochs": 20},
    "smoking": {"augment": "photo", "resize": "crop", "size": 224, "epochs": 10},
    "histology-lc25000-lung": {"group_regex": r"^(.+_g\d+)_", "augment": "microscopy", "size": 160, "epochs": 8},
    "malaria-nih-gray50": {"augment": "microscopy", "size": 64, "epochs": 6, "batch_size": 32},
}


def run(name: str, data: Path, out: Path) -> None:
    """Train on one data set, with cross-fitting, and keep the logits."""
    backbone = load_backbone()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trust.safetensors"
        config = TrainingConfig(data / name, "trust", file, calibration="cross", **COMMON | TASKS[name])
        images = load_training_data(config, backbone)
        loop = TrainingLoop(config, backbone, Classification(config, images), [])
        loop.run(silent)
        manifest = manifest_of(loop, False)
        train, test = images.samples("train"), images.samples("test")
        folds = folds_of([s.label for s in train], [s.group for s in train])
        logits = cross_fitted_logits(loop, images, manifest, folds, silent)
        adapter = admit(dump_adapter(manifest, loop.adapter.stored(loop.best)), backbone)
        tested = served_logits(adapter, backbone, images.folder, test)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / f"{name}.npz",
        truth=[s.label for s in train],
        logits=logits.numpy(),
        folds=folds,
        test_truth=[s.label for s in test],
        test_logits=tested.numpy(),
    )


def row(path: Path) -> list[str]:
    """One line of the table."""
    kept = np.load(path)
    truth, tested = kept["truth"].astype(np.int64), kept["test_truth"].astype(np.int64)
    logits, test_logits = kept["logits"].astype(np.float64), kept["test_logits"].astype(np.float64)
    scaling, _ = fit_scaling(logits, truth, kept["folds"], LinearHead())
    scores, test = scaling.scores(logits), scaling.scores(test_logits)
    mean, worst = coverage(truth, scores)
    sets = label_sets(fit_conformal(truth, scores, COVERAGE), test)
    before, after = (figures(tested, s) for s in (softmax(test_logits), test))
    selective = fit_selective(truth, scores, ACCURACY)
    taken = test.max(1) >= (np.inf if selective.threshold is None else selective.threshold)
    right = test.argmax(1) == tested
    return [
        path.stem,
        f"{len(truth)} / {len(tested)}",
        f"{scaling.kind} {scaling.temperature:.2f}",
        f"{mean:.3f} ({worst:.3f})",
        f"{sets[np.arange(len(tested)), tested].mean():.3f}",
        f"{before.ece.value:.3f}",
        f"{after.ece.value:.3f} ({after.ece.high:.3f})",
        f"{right.mean():.3f}",
        f"{taken.mean():.2f}",
        f"{right[taken].mean():.3f}" if taken.any() else "-",
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    scores: np.ndarray = torch.from_numpy(logits).softmax(1).numpy()
    return scores


def coverage(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The mean coverage over random halves, and that of the class with the lowest."""
    random, classes = np.random.default_rng(0), scores.shape[1]
    covered = np.empty((SPLITS, classes + 1))
    for index in range(SPLITS):
        order = random.permutation(len(truth))
        fit, measure = order[: len(truth) // 2], order[len(truth) // 2 :]
        sets = label_sets(fit_conformal(truth[fit], scores[fit], COVERAGE), scores[measure])
        inside = sets[np.arange(len(measure)), truth[measure]]
        covered[index, 0] = inside.mean()
        covered[index, 1:] = [inside[truth[measure] == label].mean() for label in range(classes)]
    means = covered.mean(0)
    return float(means[0]), float(means[1:].min())


def show(out: Path) -> None:
    heads = ["data", "images (out of fold / test)", "scaling", "coverage of 200 splits (worst class)", "on test"]
    heads += ["ECE unscaled", "ECE (upper bound)", "accuracy", "answered at 99 %", "accuracy of these"]
    print("| " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * (len(heads) - 1))
    for name in TASKS:
        if (path := out / f"{name}.npz").is_file():
            print("| " + " | ".join(row(path)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "show"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", action="append", choices=tuple(TASKS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.command == "run":
        torch.set_num_threads(1)
        for name in asked.only or TASKS:
            if not (asked.out / f"{name}.npz").is_file():
                run(name, asked.data, asked.out)
    show(asked.out)


if __name__ == "__main__":
    main()
