"""Labels and probabilities to compare with cleanlab, and the command that writes what cleanlab 2.9 says about them.

`pip install cleanlab==2.9.0 && python tests/adapters/quality/cleanlab_cases.py` writes `cleanlab.json` next to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("cleanlab.json")
CASES = 300


def cases() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels int [N] and probabilities [N, classes]: sharp and flat, noisy and clean, with rare and absent classes."""
    for seed in range(CASES):
        draw = np.random.default_rng(seed)
        classes = int(draw.integers(2, 8))
        count = int(draw.integers(20, 120))
        truth = draw.choice(classes, count, p=draw.dirichlet(np.full(classes, 2.0)))
        truth[:2] = 0, 1
        logits = draw.normal(size=(count, classes)) + np.eye(classes)[truth] * draw.uniform(0, 6)
        odds = np.exp(logits)
        labels = np.where(draw.random(count) < draw.uniform(0, 0.3), draw.integers(0, classes, count), truth)
        labels[:2] = 0, 1
        yield labels, np.round(odds / odds.sum(axis=1, keepdims=True), 4 if seed % 3 else 2)


def digest(values: np.ndarray) -> str:
    """A short digest of a list of whole numbers."""
    return hashlib.sha256(json.dumps([int(value) for value in values]).encode()).hexdigest()[:16]


def by_cleanlab() -> list[list[object]]:
    from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]  # not a dependency: see above
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]

    rows: list[list[object]] = []
    for labels, probabilities in cases():
        flags = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
        quality = get_label_quality_scores(labels, probabilities, method="self_confidence")
        ranked = np.argsort(quality, kind="stable")
        rows.append([int(flags.sum()), digest(np.flatnonzero(flags)), digest(ranked)])
    return rows


if __name__ == "__main__":
    TABLE.write_text("[\n" + ",\n".join(map(json.dumps, by_cleanlab())) + "\n]\n")
