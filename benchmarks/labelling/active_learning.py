"""How many labels the strategies of active learning save, compared with images drawn at random.

The model is a logistic head on features of the frozen network, which are computed once and kept in a file: no adapter
is trained. Each seed divides the groups (patients, tiles) into four folds; three are the pool and one is tested, in
turn. All strategies start with the same 10 random labels and get 10 more in each round, up to 100. "area" is the
mean difference in accuracy from random over the rounds after the start, in points; "worst" is that in the worst
of these rounds. The random choice is drawn three times for each start. One thread; run it with `nice -n 10`.

    python -m benchmarks.labelling.active_learning --data ../shared/data
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.shared.training_tasks import TASKS
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from lensmount_adapters.active.strategies import STRATEGIES, Pool, choose
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.quality.features import pooled_features

START, STEP, LAST = 10, 10, 100
FOLDS = 4
RANDOM_DRAWS = 3
STRENGTH = 1.0  # scikit-learn's C, for features of mean squared length 1
RANDOM = "random"


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Features [N, D], labels [N] and groups [N] of one set."""

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["malaria-recipe", "histology-recipe"], metavar="TASK")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--features", type=Path, default=Path("build/active_learning"), help="Where features are kept.")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for task in options.tasks:
        images = kept_features(task, options.data, options.features)
        _print(task, images, curves(images, options.seeds))


def kept_features(task: str, data: Path, folder: Path) -> Images:
    """The features of the set, from their file or computed now."""
    path = folder / f"{task}.npz"
    if not path.is_file():
        settings = TASKS[task]
        read = read_folder(data / settings.folder, settings.settings.get("group_regex"))
        features = pooled_features(read, load_backbone("tf_efficientnet_lite0"))
        groups = [str(sample.group or sample.path) for sample in read.samples]
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=features, labels=read.labels().numpy(), groups=groups)
    with np.load(path) as kept:
        return Images(kept["features"], kept["labels"], kept["groups"])


def curves(images: Images, seeds: int) -> dict[str, np.ndarray]:
    """The accuracy after each round [runs, rounds] of each strategy."""
    found: dict[str, list[list[float]]] = {RANDOM: [], **{name: [] for name in STRATEGIES}}
    for seed in range(seeds):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for number, (pool, tested) in enumerate(folds.split(images.features, images.labels, images.groups)):
            start = np.random.default_rng(100 * seed + number).permutation(pool)[:START]
            for name, runs in found.items():
                for draw in range(RANDOM_DRAWS if name == RANDOM else 1):
                    own = 1000 * seed + 10 * number + draw
                    runs.append(list(_run(images, pool, tested, start, name, own)))
    return {name: np.array(runs) for name, runs in found.items()}


def _run(
    images: Images, pool: np.ndarray, tested: np.ndarray, start: np.ndarray, name: str, seed: int
) -> Iterator[float]:
    """The accuracy on the tested images after each round."""
    rng = np.random.default_rng(seed)
    mean, spread = images.features[pool].mean(axis=0), images.features[pool].std(axis=0)
    scaled = (images.features - mean) / np.maximum(spread, 1e-6)
    classes = int(images.labels.max()) + 1
    labelled = start
    while True:
        # A head with a penalty on its squared weights lies in the span of its images, so [n, n] numbers give the same.
        left, sizes, span = np.linalg.svd(scaled[labelled], full_matrices=False)
        head = LogisticRegression(C=STRENGTH / scaled.shape[1], max_iter=300, tol=1e-3)
        head.fit(left * sizes, images.labels[labelled])
        yield float((head.predict(scaled[tested] @ span.T) == images.labels[tested]).mean())
        if len(labelled) >= LAST:
            return
        free = np.setdiff1d(pool, labelled)
        if name == RANDOM:
            chosen = rng.choice(len(free), STEP, replace=False)
        else:
            probabilities = np.zeros((len(free), classes))
            probabilities[:, head.classes_] = head.predict_proba(scaled[free] @ span.T)
            chosen = choose(name, Pool(scaled[free], probabilities, scaled[labelled]), STEP, seed)
        labelled = np.concatenate([labelled, free[chosen]])


def _print(task: str, images: Images, found: dict[str, np.ndarray]) -> None:
    random = 100 * found[RANDOM].mean(axis=0)
    rounds = range(START, LAST + 1, STEP)
    print(f"\n{task}: {len(images.labels)} images, {len(set(images.groups))} groups, {len(found['margin'])} runs\n")
    print("| strategy | area | worst | " + " | ".join(f"{labels} labels" for labels in rounds) + " |")
    print("|---|---|---|" + "---|" * len(rounds))
    for name, runs in found.items():
        mean = 100 * runs.mean(axis=0)
        gain = mean - random
        cells = [f"{gain[1:].mean():+.2f}", f"{gain[1:].min():+.2f}", *(f"{value:.1f}" for value in mean)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
