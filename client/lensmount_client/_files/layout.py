"""Recognise how a folder states classes and parts: by class folders, parts above or below them, wrapping folders.

What can be read in two ways is refused with both readings.

A copy of adapters/lensmount_adapters/data/layout.py that `make options` writes. Do not edit it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from lensmount_client._files.labels import check_label, looks_like_part, part_of
from lensmount_client._files.refusal import refusal
from lensmount_client._files.walk import listed_names, order_of

_WRAPPINGS = 3  # folders around the data that are passed through
_IMAGES = frozenset(
    {"image", "images", "img", "imgs", "jpegimages", "input", "inputs", "photos", "original", "originals"}
)
_MASKS = frozenset(
    {
        *("mask", "masks", "label", "labels", "gt", "groundtruth", "annotation", "annotations", "annots", "target"),
        *("targets", "segmentation", "segmentations", "segmentationclass", "segmentationobject", "manual", "truth"),
        *("trimap", "trimaps"),
    }
)
_MASK_ENDS = ("mask", "masks", "seg", "segmentation", "gt", "groundtruth", "label")
_UNITS = frozenset(
    {
        *("patient", "patients", "pat", "subject", "sub", "case", "slide", "scan", "session", "visit", "day", "batch"),
        *("video", "clip", "series", "study", "site", "animal", "mouse", "plate", "well", "roi", "tile", "person"),
    }
)
_DIVISIONS = frozenset(
    {
        *("patient", "pat", "subject", "case", "slide", "scan", "session", "visit", "batch", "plate", "fold", "part"),
        *("chunk", "shard", "split", "subset", "folder", "archive", "images", "imgs"),
    }
)
_UNLABELLED = frozenset({"unlabeled", "unlabelled", "nolabel", "notlabeled", "notlabelled", "unannotated", "untagged"})
_RANKS = frozenset({"grade", "stage", "type", "class", "level", "score", "category", "degree", "birads"})


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image file with its label and, if stated, its group and split."""

    path: str
    label: str
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The labelled files, and sentences for the user. `plain`: the label is the folder at the top of each path."""

    files: tuple[Labelled, ...]
    notes: tuple[str, ...] = ()
    plain: bool = True


def wrapping(inputs: Iterable[str], stops: Iterable[str], class_depth: int | None = None) -> str:
    """The folder below which the data begin, as `data/cells/`, or "".

    A folder is passed through if all folders with images are in it and it has no image itself. It is not if a file of
    `stops` is in it or above it: labels and annotations are at the root of the data.
    """
    inputs, stops = list(inputs), list(stops)
    prefix = ""
    for _ in range(_WRAPPINGS):
        all_below = [path[len(prefix) :] for path in inputs if path.startswith(prefix)]
        below = [path for path in all_below if "/" in path]
        tops = {path.partition("/")[0] for path in below}
        if len(tops) != 1 or (len(below) < len(all_below) and len({path.split("/")[1] for path in below}) < 2):
            break
        (top,) = tops
        inner = f"{prefix}{top}/"
        if any(path.rpartition("/")[0] + "/" == prefix or (not prefix and "/" not in path) for path in stops):
            break
        labelled = any(path.startswith(inner) and "/" not in path[len(inner) :] for path in stops)
        flat = any(path.count("/") == 1 for path in below)
        deep_enough = class_depth is None or min(path.count("/") for path in below) > class_depth
        groups = all(_words(path.split("/")[1]) & _UNITS for path in below)  # patient_01 is no class
        if not labelled and (flat or groups or part_of(top) or not deep_enough):
            break
        prefix = inner
    return prefix


def by_folders(title: str, inputs: Sequence[str], folders: Sequence[str], class_depth: int | None = None) -> Layout:
    """Take the classes from the names of folders. `inputs` are images and `folders` all folders below the root.

    `class_depth` is how many levels of folders name the class: 1 for `lung/1.png`, 2 for `lung/aca/1.png`. None: 1,
    but a layout that can be read in two ways is refused. Raises a refusal with both readings and the way out.
    """
    tops = sorted({path.partition("/")[0] for path in folders})
    if not tops or not any("/" in path for path in inputs):
        _refuse_flat(title, inputs, tops)
    inputs = [path for path in inputs if "/" in path]
    if class_depth is None:
        _refuse_masks(title, inputs)
    parts = {top: part_of(top) for top in tops}
    if class_depth is None and len(tops) > 1 and all(map(looks_like_part, tops)):
        _may_be_parts(title, inputs, class_depth)  # train/cat.0.jpg, test1/1.jpg
    if all(parts.values()) and _may_be_parts(title, inputs, class_depth):
        return _with_two_classes(title, _in_parts(title, inputs, folders, class_depth))
    if class_depth is None:
        _refuse_some_parts(title, inputs, parts)
        _refuse_divisions(title, tops)
    if class_depth in (None, 1) and len(tops) > 1 and (layout := _with_parts_below(title, inputs, class_depth)):
        return layout
    if len(tops) == 1 and class_depth is None:
        _refuse_one_class(title, tops[0], sorted({path.split("/")[1] for path in inputs if path.count("/") > 1}))
    labels = _labels(title, {path: path for path in inputs}, folders, class_depth)
    files = tuple(Labelled(path, labels[path]) for path in inputs)
    return _with_two_classes(title, Layout(files, (), class_depth is None))


def _with_two_classes(title: str, layout: Layout) -> Layout:
    labels = {file.label for file in layout.files}
    if len(labels) < 2:
        _refuse_one_class(title, *labels)
    return layout


def _refuse_one_class(title: str, name: str, below: Sequence[str] = ()) -> NoReturn:
    fix = "Fix: add a folder with images of another class"
    if len(below) > 1:
        fix += f"; if the folders in it are the classes ({listed_names(list(below))}), say --class-depth 2"
    elif not below:
        fix += "; if these images are of several classes, put those of each class into a folder of its name, or add a "
        fix += "labels.csv with the columns path and label"
    raise refusal(f"{title}: found one class folder ({name}), expected at least two. {fix}", "dataset_too_small")


def _labels(title: str, inner: dict[str, str], folders: Iterable[str], class_depth: int | None) -> dict[str, str]:
    """The label of each path by its `inner` path, the one below its part. Refuses folders without an image."""
    depth = class_depth or 1
    if class_depth is None:
        _refuse_nested(title, sorted(set(inner.values()), key=order_of))
    labels: dict[str, str] = {}
    for path, below in inner.items():
        names = below.split("/")[:-1]
        if len(names) < depth:
            raise refusal(
                f"{title}: found {path} with {len(names)} folder(s) around it, expected {depth}, because --class-depth "
                f"is {depth}. Fix: move it into a folder of its class, or choose another --class-depth"
            )
        labels[path] = "/".join(names[:depth])
    if class_depth is None:
        _refuse_unlabelled(title, sorted(set(labels.values())))
    filled = {"/".join(names[: number + 1]) for names in map(_names, inner.values()) for number in range(len(names))}
    empty = [name for name in folders if name.count("/") < depth and name not in filled]
    if empty:
        raise refusal(
            f"{title}: found no images in {listed_names(sorted(empty), 10)}, expected some in every class folder. "
            "Fix: add images or remove the folder",
            "dataset_too_small",
        )
    for label in sorted(set(labels.values())):
        if why := check_label(label):
            raise refusal(f"{title}: {why} (a class folder's name). Fix: rename the folder")
    return labels


def _names(path: str) -> list[str]:
    return path.split("/")[:-1]


def _may_be_parts(title: str, inputs: Sequence[str], class_depth: int | None) -> bool:
    """Whether class folders are below the parts. Images without one are refused, unless the depth was stated."""
    direct = [path for path in inputs if path.count("/") == 1]
    if not direct:
        return True
    if class_depth == 1 and len(direct) == len(inputs):
        return False
    raise refusal(
        f"{title}: found {len(direct)} image(s) such as {direct[0]} in a folder named like a part of a split, expected "
        "a class folder between them. Fix: put the images of each class into a folder (train/cat/1.png), leave out a "
        "part that has no classes, or say --class-depth 1 if the folders are the classes"
    )


def _in_parts(title: str, inputs: Sequence[str], folders: Sequence[str], class_depth: int | None) -> Layout:
    """Parts above class folders: `train/cat/1.png`. Each part may have folders around its classes."""
    tops = sorted({path.partition("/")[0] for path in folders})
    inner: dict[str, str] = {}
    inner_folders: set[str] = set()
    empty: list[str] = []
    seconds = {path.split("/")[1] for path in inputs}  # one name in every part is a folder around the classes
    for top in tops:
        below = [path[len(top) + 1 :] for path in inputs if path.startswith(f"{top}/")]
        if not below:
            empty.append(top)
            continue
        again = _same_part_again(top, below, class_depth)
        prefix = f"{top}/{again or (wrapping(below, (), class_depth) if len(seconds) == 1 else '')}"
        inner |= {path: path[len(prefix) :] for path in inputs if path.startswith(prefix)}
        inner_folders |= {folder[len(prefix) :] for folder in folders if folder.startswith(prefix)}
    if empty:
        raise refusal(
            f"{title}: found no images in {listed_names(empty)}, expected some in every part. "
            "Fix: add images or remove the folder",
            "dataset_too_small",
        )
    labels = _labels(title, inner, sorted(inner_folders), class_depth)
    files = tuple(Labelled(path, labels[path], None, part_of(path.partition("/")[0])) for path in inputs)
    _refuse_untrained(title, files)
    stated = ", ".join(f"{top}: {part_of(top)}" for top in tops)
    return Layout(files, (f"The parts of the split are taken from the folders as stated ({stated})",), False)


def _same_part_again(top: str, below: Sequence[str], class_depth: int | None) -> str:
    """The folders in a part that only name it again, as Kaggle's `training_set/training_set/cats`, or ""."""
    again = below[0].partition("/")[0] + "/"
    if part_of(again[:-1]) != part_of(top):
        return ""
    if not all(path.startswith(again) and path.count("/") > (class_depth or 1) for path in below):
        return ""
    return again + _same_part_again(top, [path.removeprefix(again) for path in below], class_depth)


def _refuse_untrained(title: str, files: Sequence[Labelled]) -> None:
    """Refuse a class that only the other parts have, such as the images without labels in `test/unknown`."""
    trained = {file.label for file in files if file.split == "train"}
    others = sorted({file.label for file in files} - trained)
    if trained and others:
        example = next(file.path for file in files if file.label == others[0])
        raise refusal(
            f"{title}: found {listed_names(others)} in other parts than training (such as {example}), which can be "
            "read in two ways: as classes, which need images for training, or as images without labels. Fix: for "
            "classes, add images of them for training; otherwise leave these folders out",
            "dataset_too_small",
        )


def _with_parts_below(title: str, inputs: Sequence[str], class_depth: int | None) -> Layout | None:
    """Parts below the class folders: `cat/train/1.png`."""
    names = [_names(path) for path in inputs]
    outside = [path for path, parts in zip(inputs, names, strict=True) if len(parts) < 2 or part_of(parts[1]) is None]
    if len({part_of(parts[1]) for parts in names if len(parts) > 1} - {None}) < 2:
        return None
    if outside:
        if class_depth == 1 or 2 * len(outside) > len(inputs):
            return None
        raise refusal(
            f"{title}: found parts of a split in class folders, and {len(outside)} image(s) outside them (such as "
            f"{outside[0]}). Fix: move them into a part, or say --class-depth 1, which splits all images again"
        )
    below = {parts[2] for parts in names if len(parts) > 2}
    if class_depth is None and len(below) > 1 and not all(map(_is_unit, below)):
        tops = sorted({parts[0] for parts in names})
        raise refusal(
            f"{title}: found folders in the parts of a split ({listed_names(sorted(below))}), which can be read in two "
            f"ways: as classes that {listed_names(tops)} have in common, or as folders without a meaning in the "
            f"classes {listed_names(tops)}. Fix: for the first, join the parts (train/{min(below)}, "
            f"test/{min(below)}); for the second, say --class-depth 1"
        )
    files = tuple(Labelled(path, parts[0], None, part_of(parts[1])) for path, parts in zip(inputs, names, strict=True))
    _refuse_untrained(title, files)
    stated = ", ".join(sorted({parts[1] for parts in names}))
    return Layout(files, (f"The parts of the split are taken from the folders in each class ({stated})",), False)


def _refuse_flat(title: str, inputs: Sequence[str], tops: Sequence[str]) -> None:
    fix = (
        "Fix: put the images of each class into a folder named after it (cat/1.jpg, dog/1.jpg), or add a labels.csv "
        "with the columns path and label"
    )
    if inputs:
        raise refusal(
            f"{title}: found {len(inputs)} image(s), but no class folders, expected at least two. {fix}",
            "dataset_too_small",
        )
    found = f"no images in {listed_names(list(tops), 10)}" if tops else "no class folders and no images"
    raise refusal(f"{title}: found {found}, expected images in at least two class folders. {fix}", "dataset_too_small")


def _refuse_masks(title: str, inputs: Sequence[str]) -> None:
    """Refuse folders of images and masks, and masks that lie next to their images, as classes."""
    parents = {path.rpartition("/")[0] for path in inputs}
    words = {_word(name) for path in inputs for name in path.split("/")[:-1]}
    roles = {_role(parent) for parent in parents}
    found = ""
    if roles == {"images", "masks"}:
        found = f"folders of images and of masks ({listed_names(sorted(parents))})"
    elif not words & _MASKS:
        stems = {path.rpartition(".")[0].lower() for path in inputs}
        masks = [path for path in inputs if _is_mask_of(path.rpartition(".")[0].lower(), stems)]
        if 3 * len(masks) >= len(inputs):
            found = f"{len(masks)} masks next to their images (such as {masks[0]})"
    if found:
        raise refusal(
            f"{title}: found {found}, expected folders of classes. Fix: to train masks, use images/ and masks/ with "
            "files of the same names and train_segmentation (docs/training.md); to train classes, leave the masks out, "
            "or say --class-depth 1 if the folders are the classes"
        )


def _role(folder: str) -> str:
    """What a folder with images has by its name: "images", "masks" (also `annotations/trimaps`) or "" if unknown."""
    names = [_word(name) for name in folder.split("/")]
    if names[-1] in _MASKS or names[0] in _MASKS:
        return "masks"
    return "images" if names[-1] in _IMAGES else ""


def _is_mask_of(stem: str, stems: set[str]) -> bool:
    """Whether `1_mask` or `1_mask_2` is the stem of a mask: there is an image with the stem `1`."""
    whole = stem.rstrip("0123456789").rstrip(" _.-")
    return any(whole.endswith(end) and whole.removesuffix(end).rstrip(" _.-") in stems for end in _MASK_ENDS)


def _word(name: str) -> str:
    return re.sub(r"[\s_.\-\d]+", "", name.lower())


def _refuse_some_parts(title: str, inputs: Sequence[str], parts: dict[str, str | None]) -> None:
    """Refuse parts with class folders next to other folders, and names that only look like parts (`seg_train`)."""
    deep = {path.partition("/")[0] for path in inputs if path.count("/") > 1}
    named = [top for top, part in parts.items() if part and top in deep]
    looks = {top: part for top in parts if top in deep and (part := looks_like_part(top))}
    others = [top for top in parts if top not in looks]
    if (named and others) or len(set(looks.values())) > 1 or len(looks) == len(parts) > 1:
        others_too = f" next to {listed_names(others)}" if others else ""
        raise refusal(
            f"{title}: found folders named like parts of a split ({listed_names(list(looks))}){others_too}, which can "
            "be read in two ways: as parts with class folders in them, or as classes. Fix: for parts, name the folders "
            "train, validation and test, and move all others elsewhere; for classes, say --class-depth 1"
        )


def _refuse_divisions(title: str, tops: Sequence[str]) -> None:
    """Refuse folders that only divide the images, such as `patient_1`, `fold_2` or `images_003`, as classes."""
    alike = len({_word(top) for top in tops}) == 1 and all(re.search(r"\d", top) for top in tops)
    if len(tops) > 1 and alike and all(_words(top) & _DIVISIONS for top in tops):
        raise refusal(
            f"{title}: found folders that only number a part of the images ({listed_names(list(tops))}), expected "
            "folders of classes. Fix: put the images into a folder for each class, add a labels.csv with the columns "
            "path and label (and group for the patient), or say --class-depth 1 if the folders are the classes"
        )


def _refuse_unlabelled(title: str, labels: Sequence[str]) -> None:
    """Refuse `no_label` or `unlabeled` as a class: annotation tools put images without one there."""
    if found := [label for label in labels if _word(label) in _UNLABELLED]:
        raise refusal(
            f"{title}: found the folder {found[0]}, which can be read in two ways: as a class, or as images without a "
            "label. Fix: move it elsewhere, or say --class-depth 1 if it is a class"
        )


def _refuse_nested(title: str, inputs: Sequence[str]) -> None:
    """Refuse class folders that contain folders which could be the classes: `lung/aca/1.png`, `lung/scc/2.png`."""
    below: dict[str, set[str]] = {}
    direct: set[str] = set()
    for path in inputs:
        top, _, rest = path.partition("/")
        if "/" in rest:
            below.setdefault(top, set()).add(rest.partition("/")[0])
        else:
            direct.add(top)
    tops = sorted({*below, *direct})
    shared = set.intersection(*below.values()) if len(below) == len(tops) > 1 and not direct else set()
    coded = len(shared) > 1 and all(map(_is_unit, tops))  # 10253/0, 10253/1, 10254/0: patients above the classes
    nested = sorted(
        f"{top}/{name}"
        for top, names in below.items()
        if top not in direct and len(names) > 1 and (coded or not all(map(_is_unit, names)))
        for name in names
    )
    if nested:
        two = "" if direct else " or --class-depth 2"
        common = f"; if the classes are {listed_names(sorted(shared))}, move these folders to the top"
        raise refusal(
            f"{title}: found folders in the class folders ({listed_names(nested)}), which can be read in two ways: as "
            f"{len(tops)} classes ({listed_names(tops)}), or as {len(nested)} or more ({listed_names(nested)}). "
            f"Fix: say which with --class-depth 1{two} (class_depth in Python)"
            f"{common if len(shared) > 1 else ''}, or add a labels.csv with the columns path and label"
        )


def _words(name: str) -> set[str]:
    """The words of a name in lower case: `patient_07` and `Patient07` have the words patient and 07."""
    return {word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", name)}


def _is_unit(name: str) -> bool:
    """Whether a folder's name is that of a patient, a slide or a session, such as `patient_07`, `S12` or `40X`."""
    if _words(name) & _UNITS:
        return True
    if _words(name) & _RANKS:
        return False
    letters, digits = sum(map(str.isalpha, name)), sum(map(str.isdigit, name))
    return digits >= 2 or (digits == 1 and letters <= 2) or len(name) == 1
