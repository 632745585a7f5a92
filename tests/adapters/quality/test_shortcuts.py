"""Shortcuts: a planted one is found, and noise is none."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from lensmount_adapters.quality.shortcuts import find_shortcuts

CLASSES = ("cat", "dog")


def noise(count: int = 200) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    draw = np.random.default_rng(0)
    columns = {kind: draw.normal(size=(count, 3)).astype(np.float32) for kind in ("file", "border", "colour")}
    return columns, np.arange(count) % 2, [str(index) for index in range(count)]


def test_noise_is_no_shortcut() -> None:
    assert find_shortcuts(*noise(), CLASSES) == []


def test_a_planted_column_is_found_with_the_auroc_that_it_has() -> None:
    columns, labels, groups = noise()
    columns["file"] = labels[:, None] * 2.0 + columns["file"][:, :1]

    (found,) = find_shortcuts(columns, labels, groups, CLASSES)

    assert found.kind == "file"
    assert abs(found.auroc - roc_auc_score(labels, columns["file"][:, 0])) < 0.02


def test_the_class_that_differs_is_named_and_constant_columns_say_nothing() -> None:
    columns, _, groups = noise(300)
    labels = np.arange(300) % 3
    columns["border"] = (labels == 2)[:, None] * np.ones((1, 2))
    columns["colour"] = np.ones((300, 3))

    (found,) = find_shortcuts(columns, labels, groups, ("cat", "dog", "owl"))

    assert (found.kind, found.label, found.auroc) == ("border", "owl", 1.0)


def test_a_class_of_few_images_is_not_reported() -> None:
    columns, _, groups = noise(40)
    labels = (np.arange(40) < 6).astype(int)
    columns["file"] = labels[:, None].astype(float)

    assert find_shortcuts(columns, labels, groups, CLASSES) == []
