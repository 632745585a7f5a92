"""Are the promises of a file kept? Coverage of sets over 200 splits, calibration error, and answers at 99 % accuracy.

Each data set is trained once with cross-fitting, the shipped adapters' sets as `make zoo` trains them. The logits are
kept: those of the training images by networks that did not see them, and those of the test part by the network that is
served. The tables are computed from these in seconds.

    python benchmarks/trust.py run --data ../shared/data [--only malaria-nih]
    python benchmarks/trust.py show        the tables of all finished runs
"""

from __future__ import annotations

import argparse
import runpy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score

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
from lensmount_adapters.trust.assess import assess_wanted
from lensmount_adapters.trust.conformal import fit_conformal, label_sets
from lensmount_adapters.trust.figures import Figure, figures
from lensmount_adapters.trust.fit import Wanted, folds_of
from lensmount_adapters.trust.scaling import fit_scaling
from lensmount_adapters.trust.selective import fit_selective

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "trust"
SPLITS, COVERAGE, ACCURACY = 200, 0.95, 0.99
TASKS: dict[str, dict[str, Any]] = {
    recipe.folder: recipe.settings for recipe in runpy.run_path(str(ROOT / "adapters" / "zoo" / "train.py"))["RECIPES"]
} | {
    "malaria-nih-gray50": {"group_regex": r"^(.*?)_?[tT]hin", "augment": "microscopy", "size": 96, "epochs": 8}
    | {"learning_rate": 2e-3, "validation_fraction": 0.05, "test_fraction": 0.52, "cache_trunk": "on", "views": 4}
}


def run(name: str, data: Path, out: Path) -> None:
    """Train on one data set, with cross-fitting, and keep the logits."""
    backbone = load_backbone()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trust.safetensors"
        config = TrainingConfig(data / name, "trust", file, **TASKS[name] | {"calibration": "cross"})
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


def rows(path: Path) -> tuple[list[str], list[str]]:
    """One line of each table: the images that trained, each scored by a network that had not seen it, and the test."""
    kept = np.load(path)
    truth, tested, folds = (kept[name].astype(np.int64) for name in ("truth", "test_truth", "folds"))
    logits, test_logits = kept["logits"].astype(np.float64), kept["test_logits"].astype(np.float64)
    scaling, apart = fit_scaling(logits, truth, folds, LinearHead())
    scores, test = scaling.scores(logits), scaling.scores(test_logits)
    mean, worst = coverage(truth, scores)
    labels = [str(label) for label in range(scores.shape[1])]
    accepted = assess_wanted(labels, truth, scores, folds, Wanted(COVERAGE, ACCURACY))["accepted"]
    selective = fit_selective(truth, scores, ACCURACY)
    taken = test.max(1) >= (np.inf if selective.threshold is None else selective.threshold)
    right = test.argmax(1) == tested
    covered = label_sets(fit_conformal(truth, scores, COVERAGE), test)[np.arange(len(tested)), tested]
    return [
        path.stem,
        str(len(truth)),
        f"{balanced_accuracy_score(truth, logits.argmax(1)):.3f}",
        f"{scaling.kind} {scaling.temperature:.2f}",
        interval(figures(truth, softmax(logits)).ece),
        interval(figures(truth, apart).ece),
        ideal(apart),
        f"{mean:.3f} ({worst:.3f})",
        answered(accepted["share"], accepted["accuracy"]),
    ], [
        path.stem,
        str(len(tested)),
        f"{balanced_accuracy_score(tested, test.argmax(1)):.3f}",
        interval(figures(tested, softmax(test_logits)).ece),
        interval(figures(tested, test).ece),
        ideal(test),
        f"{covered.mean():.3f} ({min(covered[tested == label].mean() for label in np.unique(tested)):.3f})",
        answered(taken.mean(), right[taken].mean() if taken.any() else None),
    ]


def interval(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def ideal(scores: np.ndarray) -> str:
    """The ECE that these scores would show if they were exactly as often right as they say; the mean of 20 draws."""
    random = np.random.default_rng(0)
    drawn = [(scores.cumsum(1) > random.random(len(scores))[:, None]).argmax(1) for _ in range(20)]
    found = [figures(truth, scores).ece for truth in drawn]
    return f"{np.mean([each.value for each in found]):.3f} (to {np.mean([each.high for each in found]):.3f})"


def answered(share: float, accuracy: float | None) -> str:
    return "none" if accuracy is None else f"{share:.2f}; {accuracy:.3f}"


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
    found = [rows(path) for name in TASKS if (path := out / f"{name}.npz").is_file()]
    common = ["balanced accuracy", "ECE unscaled", "ECE (95 % interval)", "if calibrated perfectly"]
    heads = ["out of fold", "images", common[0], "scaling", *common[1:]]
    heads += [f"coverage of {SPLITS} splits (worst class)", "answered at 99 %; accuracy of these"]
    table(heads, [each for each, _ in found])
    heads = ["test part", "images", *common, "coverage (worst class)", "answered at 99 %; accuracy of these"]
    table(heads, [each for _, each in found])


def table(heads: list[str], lines: list[list[str]]) -> None:
    print("| " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * (len(heads) - 1))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


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
