"""Review a dataset with the frozen backbone: which labels, images and pairs a person should look at, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.data.near_duplicates import alike
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.groups.group_names import propose_groups
from lensmount_adapters.quality.features import pooled_features
from lensmount_adapters.quality.label_issues import LabelIssues, find_label_issues
from lensmount_adapters.quality.neighbours import Neighbours, alike_pairs, nearest_neighbours, outliers
from lensmount_adapters.quality.out_of_fold import out_of_fold_probabilities
from lensmount_adapters.quality.shortcuts import Shortcut, find_shortcuts
from lensmount_adapters.quality.surface import Surface, columns_of, surfaces_of

LISTED = 200  # items of each kind that a review names
MAX_IMAGES = 50_000  # all are compared with all: 20 s at 10,000 images, so some minutes
MAX_PAIRS = 50_000  # about so many pairs that show the same are compared
_MORE_PAIRS = (
    "There are more pairs of images that show the same than are counted here. Fix: exclude the copies that are listed, "
    "then review the new version"
)
# balanced accuracy of the head from which on most of what it doubts is wrong (benchmarks/labelling/label_errors.py)
SURE = 0.9

OnProgress = Callable[[str, int, int], None]  # phase, images done, images in total


@dataclass(frozen=True, slots=True)
class LabelDoubt:
    """An image whose label is doubted: `quality` is the probability of `label`, and `suggested` is the likeliest class.

    `flagged` is True where confident learning finds another class; the others are listed because they come next.
    """

    path: str
    label: str
    suggested: str
    quality: float
    flagged: bool


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image unlike all others. `distance` is the mean of 1 - cosine to its 10 nearest neighbours, 0 to 2."""

    path: str
    label: str
    distance: float


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Two different files that show the same. `leak`: they are in two stated parts. `conflict`: in two classes."""

    paths: tuple[str, str]
    labels: tuple[str, str]
    parts: tuple[str | None, str | None]
    similarity: float
    leak: bool
    conflict: bool


@dataclass(frozen=True, slots=True)
class Review:
    """What a review found. The lists are the most suspicious first and have at most 200 items. The counts are exact,
    except that a dataset of many copies has more pairs than are compared, and a note then says so.

    `checked` images have a probability of their label: those of classes with at least two groups. `accuracy` is the
    balanced accuracy of the head on images that it was not fitted on; None if no image is checked.
    """

    images: int
    checked: int
    accuracy: float | None
    flagged: int
    labels: tuple[LabelDoubt, ...]
    outlier_count: int
    outliers: tuple[Outlier, ...]
    look_alike_count: int
    leak_count: int
    conflict_count: int
    look_alikes: tuple[LookAlike, ...]
    shortcuts: tuple[Shortcut, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The review as a document of JSON: shares and distances rounded to 4 digits."""
        document: dict[str, Any] = asdict(self)
        rounded: dict[str, Any] = _rounded(document)
        return rounded


def review_folder(folder: ImageFolder, backbone: Backbone, on_progress: OnProgress | None = None) -> Review:
    """Review the dataset: one pass of the backbone over all images, then some seconds.

    `on_progress(phase, done, total)` is called for each image or batch, with the phases "reading" and "features"; it
    may raise to stop. Raises DatasetError, ImageError, OSError.
    """
    check_size(len(folder))
    tell = on_progress or (lambda phase, done, total: None)
    surfaces = surfaces_of(folder, lambda done, total: tell("reading", done, total))
    features = pooled_features(folder, backbone, lambda done, total: tell("features", done, total))
    return review_features(folder, features, surfaces)


def check_size(images: int) -> None:
    """Raises DatasetError if a dataset has too many images to compare all with all."""
    if images > MAX_IMAGES:
        raise DatasetError(
            f"found {images} images, expected at most {MAX_IMAGES} for a review. Fix: review a part of them",
            code="dataset_too_large",
        )


def review_features(folder: ImageFolder, features: np.ndarray, surfaces: Sequence[Surface]) -> Review:
    """Review the dataset by features float32 [N, D] and surfaces [N], in the order of `folder.samples`."""
    labels = np.array([sample.label for sample in folder.samples])
    groups = [sample.group for sample in folder.samples]
    probabilities = out_of_fold_probabilities(features, labels, groups, len(folder.classes))
    checked = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    issues = find_label_issues(labels[checked], probabilities[checked])
    accuracy = _balanced_accuracy(labels[checked], issues.suggested) if len(checked) else None
    neighbours = nearest_neighbours(features)
    far = outliers(neighbours)
    distances = neighbours.distances()
    pairs, all_pairs = _look_alikes(folder, neighbours, surfaces)
    shortcuts = find_shortcuts(columns_of(surfaces), labels, groups, folder.classes)
    flagged = int(issues.flags.sum())
    return Review(
        images=len(folder),
        checked=len(checked),
        accuracy=accuracy,
        flagged=flagged,
        labels=tuple(_doubts(folder, checked, issues)),
        outlier_count=len(far),
        outliers=tuple(
            Outlier(folder.samples[i].path, folder.classes[labels[i]], float(distances[i])) for i in far[:LISTED]
        ),
        look_alike_count=len(pairs),
        leak_count=sum(pair.leak for pair in pairs),
        conflict_count=sum(pair.conflict for pair in pairs),
        look_alikes=tuple(pairs[:LISTED]),
        shortcuts=tuple(shortcuts),
        notes=(
            *_notes(len(folder), len(checked), accuracy, flagged, pairs, shortcuts),
            *([] if all_pairs else [_MORE_PAIRS]),
            *_about_groups(folder),
        ),
    )


def _doubts(folder: ImageFolder, checked: np.ndarray, issues: LabelIssues) -> list[LabelDoubt]:
    """The flagged images, then those that the head takes for another class; within both the lowest quality first."""
    samples, classes = folder.samples, folder.classes
    order = [int(row) for row in issues.ranked() if classes[issues.suggested[row]] != _label(folder, checked[row])]
    order.sort(key=lambda row: not issues.flags[row])  # stable
    return [
        LabelDoubt(
            path=samples[checked[row]].path,
            label=_label(folder, checked[row]),
            suggested=classes[issues.suggested[row]],
            quality=float(issues.quality[row]),
            flagged=bool(issues.flags[row]),
        )
        for row in order[:LISTED]
    ]


def _label(folder: ImageFolder, index: int) -> str:
    return folder.classes[folder.samples[index].label]


def _look_alikes(
    folder: ImageFolder, neighbours: Neighbours, surfaces: Sequence[Surface]
) -> tuple[list[LookAlike], bool]:
    """Pairs that are alike by their features or by their pixels (`data/near_duplicates.py`), leaks first.

    The second value is False if there may be more pairs.

    Byte-identical files are left out: they share a group already. So are pairs of one group, which is expected.
    """
    samples = folder.samples
    similar = {(int(i), int(j)): _similarity(neighbours, int(i), int(j)) for i, j in alike_pairs(neighbours)}
    everything = True
    for block in alike([surface.facts.likeness for surface in surfaces]):
        if len(similar) > MAX_PAIRS:
            everything = False
            break
        for i, j, _ in block.tolist():
            similar.setdefault((i, j), _similarity(neighbours, i, j))
    pairs = [
        LookAlike(
            paths=(samples[i].path, samples[j].path),
            labels=(_label(folder, i), _label(folder, j)),
            parts=(samples[i].split, samples[j].split),
            similarity=similarity,
            leak=None not in (samples[i].split, samples[j].split) and samples[i].split != samples[j].split,
            conflict=samples[i].label != samples[j].label,
        )
        for (i, j), similarity in similar.items()
        if samples[i].digest != samples[j].digest and samples[i].group != samples[j].group
    ]
    return sorted(pairs, key=lambda pair: (not pair.leak, not pair.conflict, -pair.similarity)), everything


def _similarity(neighbours: Neighbours, i: int, j: int) -> float:
    """The cosine of a pair, or the least that is known about it if neither is among the other's neighbours."""
    for a, b in ((i, j), (j, i)):
        at = np.flatnonzero(neighbours.index[a] == b)
        if len(at):
            return float(neighbours.similarity[a, at[0]])
    return float(min(neighbours.similarity[i].min(initial=1.0), neighbours.similarity[j].min(initial=1.0)))


def _balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over the classes that occur of the share of their images that the head gets right."""
    return float(np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)]))


def _notes(
    images: int,
    checked: int,
    accuracy: float | None,
    flagged: int,
    pairs: Sequence[LookAlike],
    shortcuts: Sequence[Shortcut],
) -> list[str]:
    notes: list[str] = []
    if checked < images:
        notes.append(
            f"The labels of {images - checked} image(s) cannot be checked, because their class, or the only other "
            "one, has a single group. Fix: add images of other groups"
        )
    if flagged:
        notes.append(f"{flagged} label(s) are likely wrong. Fix: look at each, then relabel or exclude it")
    if flagged and accuracy is not None and accuracy < SURE:
        notes.append(
            f"The frozen backbone tells these classes apart with a balanced accuracy of {accuracy:.2f}, so about half "
            "of what is flagged may be right. Fix: look before you change a label"
        )
    if leaks := sum(pair.leak for pair in pairs):
        notes.append(
            f"{leaks} pair(s) of images that show the same are in two parts of the split, so the figures would be too "
            "good. Fix: exclude one of each pair"
        )
    if conflicts := sum(pair.conflict for pair in pairs):
        notes.append(f"{conflicts} pair(s) of images that show the same have two labels. Fix: relabel one of each pair")
    return notes + [_about(shortcut) for shortcut in shortcuts]


def _about_groups(folder: ImageFolder) -> list[str]:
    """A note if no groups are known and the names suggest some, as before a training (data/data_warnings.py)."""
    paths = [sample.path for sample in folder.samples]
    if {sample.group for sample in folder.samples} - set(paths):
        return []
    proposed = propose_groups(paths, [folder.classes[sample.label] for sample in folder.samples])
    if proposed is None:
        return []
    examples = " and ".join(repr(name[:80]) for name in proposed.examples)
    return [
        f"The names look like those of patients, slides or sources: {proposed.count} groups in {len(paths)} images, "
        f"such as {examples}. Each label was checked against images that may be of its own group. Fix if images of one "
        f"group belong together: review again with group_regex {proposed.regex} (--group-regex '{proposed.regex}')"
    ]


def _about(shortcut: Shortcut) -> str:
    label = repr(shortcut.label[:80])
    if shortcut.kind == "file":
        return (
            f"The file alone (size, format, compression) tells {label} from the other classes (AUROC "
            f"{shortcut.auroc:.2f}), so training may learn it instead of the content. Fix: save the images of all "
            "classes in the same way"
        )
    what = {"border": "border", "colour": "mean colour"}[shortcut.kind]
    return (
        f"The {what} tells {label} from the other classes (AUROC {shortcut.auroc:.2f}). If it comes from the camera, "
        "the stain or a frame and not from the class, training may learn it instead of the content. Fix in this case: "
        "take images of all classes in the same way"
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
