"""What the folders of a dataset of masks are for: images, masks, a part of the split, or none of these.

The names are those of common datasets: VOC's JPEGImages and SegmentationClass, Cityscapes' leftImg8bit and gtFine,
DRIVE's 1st_manual, CamVid's train_labels, ISIC's Training_Input and Training_GroundTruth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from lensmount_adapters.data.labels import part_of

Role = Literal["image", "mask"]

_WORDS: dict[str, Role] = {
    **dict.fromkeys(("image", "images", "img", "imgs", "input", "inputs", "imgdir", "jpegimages"), "image"),
    "leftimg8bit": "image",
    **dict.fromkeys(("mask", "masks", "label", "labels", "gt", "groundtruth", "truth", "target", "targets"), "mask"),
    **dict.fromkeys(("annotation", "annotations", "annot", "annots", "seg", "segmentation", "segmentations"), "mask"),
    **dict.fromkeys(("segmentationclass", "segmentationclasspng", "segmentationobject", "stuffthingmaps"), "mask"),
    **dict.fromkeys(("gtfine", "gtcoarse", "manual", "manual1", "manual2", "1stmanual", "2ndmanual", "anndir"), "mask"),
}  # fmt: skip
BETTER: dict[str, frozenset[str]] = {
    "segmentationclass": frozenset({"segmentationobject", "segmentationclasspng"}),
    "gtfine": frozenset({"gtcoarse"}),
    **dict.fromkeys(("1stmanual", "manual1", "manual"), frozenset({"mask", "masks", "2ndmanual", "manual2"})),
}
"""A folder of masks, and those that are not read next to it: numbered objects, coarser masks, a second reader's masks,
and the field of view, which DRIVE calls `mask`."""
_NNUNET: dict[str, tuple[Role, str]] = {
    "imagestr": ("image", "train"), "labelstr": ("mask", "train"),
    "imagests": ("image", "test"), "labelsts": ("mask", "test"),
}  # fmt: skip
_NOISE = re.compile(r"(stage|set|v)?\d*|set|data|full")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies.

    `folder` is the path of the folder that states the role, `root` the folders above it, with slashes, and `name` the
    path below it. Folders that state a part of the split are in neither, but at the front of `name`, in the words of
    `part`. Without a role `name` is the whole path.
    """

    path: str
    role: Role | None
    part: str | None
    folder: str
    root: str
    name: str


def place_of(path: str, *, parts: bool = True) -> Place:
    """Read the folders of a path. Without `parts` no folder states a part of the split."""
    *folders, file = path.split("/")
    role: Role | None = None
    part, folder = None, ""
    above: list[str] = []
    below: list[str] = []
    for depth, name in enumerate(folders, start=1):
        found, stated = meaning_of(name)
        stated = stated if parts else None
        if role is None and found is not None:
            role, folder, part = found, "/".join(folders[:depth]), part or stated
        elif found is None and stated is not None and part in (None, stated) and not below:
            part = stated
        elif role is None or plain(name) != plain(PurePosixPath(folder).name):  # archives often repeat a folder's name
            (below if role else above).append(name)
    front = [part] if part else []
    if role is None:
        return Place(path, None, part, "", "", "/".join([*front, *above, file]))
    return Place(path, role, part, folder, "".join(f"{name}/" for name in above), "/".join([*front, *below, file]))


def meaning_of(folder: str) -> tuple[Role | None, str | None]:
    """The role and the part of the split that the name of a folder states; `train_labels` states both."""
    if role := _WORDS.get(plain(folder)):
        return role, None
    if both := _NNUNET.get(plain(folder)):
        return both
    words = [word for word in re.split(r"[\s_.-]+", re.sub(r"annot$", "_annot", folder.casefold())) if word]
    parts = [(word, part) for word in words if (part := part_of(word.rstrip("0123456789")))]
    stuff = any(word.startswith("stuffthingmap") for word in words)
    if len(parts) != 1:
        return ("mask" if stuff else None), part_of(folder)
    ((stated, part),) = parts
    joined = plain(re.sub(r"ground[\s_.-]?truth", "groundtruth", folder.casefold()).replace(stated, " "))
    roles = [_WORDS[word] for word in (*words, "groundtruth" if "groundtruth" in joined else "") if word in _WORDS]
    if roles:
        return roles[-1], part
    alone = all(_NOISE.fullmatch(word) for word in words if word != stated)
    return None, part if alone or words[-1] in ("data", "set") else None


def plain(folder: str) -> str:
    """The name of a folder without case and separators: "Ground Truth" is "groundtruth"."""
    return re.sub(r"[\s_.-]+", "", folder.casefold())


def left_out(folders: Iterable[str]) -> Mapping[str, str]:
    """The paths of folders of masks that are not read, each with the path of the one that is read instead."""
    names = {folder: plain(folder.rpartition("/")[2]) for folder in folders}
    return {
        folder: better
        for folder, name in names.items()
        for better, word in names.items()
        if name in BETTER.get(word, frozenset())
    }
