"""Find the mask files of each image by their folders and names.

The layouts: `images/` and `masks/` with matching names; one folder per image with `images/` and `masks/` in it, as in
the Data Science Bowl 2018; and masks next to their images, told by a mark in the name such as `_mask`.

Names match if they are equal without suffix, or with a mark: 000_mask.png, 000_seg.png, mask_000.png, 000.jpg.png.
Upper and lower case count only where two images differ in nothing else. Several files of one image are joined if they
are one object each: all in a folder named after the image, or numbered (000_mask1.png, 000_mask2.png).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from lensmount_adapters.data.walk import composed, is_input_name, order_of, passed_over_part
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES

LISTED = 10  # files named in one message
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img"})
MASK_FOLDERS = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "segmentations", "gt", "ground_truth", "groundtruth"}
)
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_MARK = r"(?:cp_)?masks?|seg|segs|segmentations?|labels?|gt|ground[_-]?truth|annotations?|instances?|objects?"
_SUFFIXED = re.compile(rf"^(?P<base>.+?)[ _.-]+(?P<mark>{_MARK})[ _.-]?(?P<number>\d*)$", re.IGNORECASE)
_PREFIXED = re.compile(rf"^(?P<mark>{_MARK})(?:[ _.-]+(?P<base>.+)|(?P<digits>\d+))$", re.IGNORECASE)
_OF_IMAGE = re.compile(r"^(?:images?|imgs?|im|frame|photo|raw)[ _.-]?(?P<after>.+)$", re.IGNORECASE)
_IMAGE_LAST = re.compile(r"^(?P<before>.+?)[ _.-]+(?:images?|imgs?|im|frame|photo|raw)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the files of its mask, as paths below the root. Several files are objects to be joined."""

    image: str
    masks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs in the order of their images.

    `without_mask` are images, `without_image` are masks of no image, and `ignored` are other files.
    """

    pairs: tuple[Pair, ...]
    without_mask: tuple[str, ...]
    without_image: tuple[str, ...]
    ignored: tuple[str, ...]


def wrapping_folder(files: Iterable[str]) -> str:
    """The folders, each with its slash, that all files lie in; "" if there is none. Archives often have one."""
    prefix = ""
    visible = [path for path in files if passed_over_part(path) is None]
    while tops := {path[len(prefix) :].partition("/")[:2] for path in visible}:
        top, slash = next(iter(tops))
        if len(tops) > 1 or not slash or top.casefold() in IMAGE_FOLDERS | MASK_FOLDERS:
            break
        prefix += f"{top}/"
    return prefix


def find_pairs(title: str, files: Iterable[str]) -> Pairs:
    """Pair the files of a dataset. `title` is its name in messages.

    Raises DatasetError if there is no such layout, or if an image has two masks that are not parts of one.
    """
    visible = [path for path in files if passed_over_part(path) is None]
    inputs = [path for path in visible if is_input_name(path, IMAGE_SUFFIXES)]
    homes = _homes(inputs)
    others = tuple(path for path in visible if path not in set(inputs))
    if not homes:
        return _side_by_side(title, inputs, others)
    names = {root.rstrip("/").rpartition("/")[2].casefold() for root in homes}
    if len(homes) > 1 and not names <= PARTS and all(len(home.images) == 1 for home in homes.values()):
        return _folder_per_image(homes, others)
    if "" not in homes and len(homes) > 1:
        folders = [root.rstrip("/") for root in homes]
        raise DatasetError(
            f"{title}: found {_listed(folders)}, each with images and masks, expected one of them. "
            f"Fix: give {title}/{folders[0]} as the data, or move the images together and the masks together"
        )
    root = "" if "" in homes else next(iter(homes))
    home = homes[root]
    if not home.masks and _marked(home.images):
        return _side_by_side(title, tuple(home.images), ())
    if not home.masks:
        raise _no_masks(title, root, home.image_folders[0], others)
    home.check_one_folder_each(title, root)
    inside = tuple(f"{root}{name}/" for name in (*home.image_folders, *home.mask_folders))
    return _paired(title, home.images, home.masks, tuple(path for path in others if path.startswith(inside)))


@dataclass(slots=True)
class _Home:
    """A folder with a folder of images and one of masks. Each file is mapped from its path to its name for pairing."""

    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    image_folders: list[str] = field(default_factory=list)
    mask_folders: list[str] = field(default_factory=list)

    def check_one_folder_each(self, title: str, root: str) -> None:
        for found in (self.image_folders, self.mask_folders):
            if len(found) > 1:
                raise DatasetError(
                    f"{title}: found the folders {' and '.join(root + name for name in found)}, expected one of them. "
                    "Fix: rename those that are not to be used"
                )


def _no_masks(title: str, root: str, images: str, others: Sequence[str]) -> DatasetError:
    like = [path for path in others if path[len(root) :].split("/")[0].casefold() in MASK_FOLDERS]
    instead = f" (found {_listed(like)}, which are not images)" if like else ""
    return DatasetError(
        f"{title}: found no folder masks with images next to {root}{images}{instead}, expected images/ and masks/ with "
        "files of the same names. Fix: put the mask of each image, as a PNG, into masks/ under the image's name"
    )


def _homes(inputs: Sequence[str]) -> dict[str, _Home]:
    """Find each folder that has a folder of images, by its path with a slash; "" is the root."""
    homes: dict[str, _Home] = defaultdict(_Home)
    masks: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path in inputs:
        parts = path.split("/")
        for depth, part in enumerate(parts[:-1]):
            folder, rest = part.casefold(), "/".join(parts[depth + 1 :])
            root = "".join(f"{name}/" for name in parts[:depth])
            if folder in IMAGE_FOLDERS:
                home = homes[root]
                home.images[path] = rest
                if part not in home.image_folders:
                    home.image_folders.append(part)
                break
            if folder in MASK_FOLDERS:
                masks[root].append((part, path, rest))
                break
    for root, home in homes.items():
        for folder, path, rest in masks[root]:
            home.masks[path] = rest
            if folder not in home.mask_folders:
                home.mask_folders.append(folder)
    return dict(homes)


def _folder_per_image(homes: dict[str, _Home], others: tuple[str, ...]) -> Pairs:
    """All files in an image's folder of masks are its objects."""
    pairs: list[Pair] = []
    missing: list[str] = []
    for home in homes.values():
        (image,) = home.images
        if home.masks:
            pairs.append(Pair(image, tuple(sorted(home.masks, key=order_of))))
        else:
            missing.append(image)
    return Pairs(_ordered(pairs), tuple(missing), (), others)


def _side_by_side(title: str, inputs: Sequence[str], others: tuple[str, ...]) -> Pairs:
    """Masks lie next to their images: a file is a mask if its name without mark is that of another file."""
    masks = {path: path for path in _marked(inputs)}
    images = {path: path for path in inputs if path not in masks}
    if not masks:
        tops = sorted({path.partition("/")[0] for path in inputs if "/" in path})
        found = f" (found the folders {_listed(tops)})" if tops else ""
        raise DatasetError(
            f"{title}: found no folder images with images in it{found}, expected images/ and masks/ with files of the "
            "same names. Fix: put the images into images/ and the mask of each into masks/ under the image's name, or "
            "put the mask of 000.png next to it as 000_mask.png"
        )
    return _paired(title, images, masks, others)


def _marked(inputs: Iterable[str]) -> list[str]:
    """The files whose name, without a mark, is that of another file."""
    inputs = list(inputs)
    names = {composed(_stem(path)) for path in inputs} | {composed(path) for path in inputs}
    return [path for path in inputs if any(composed(base) in names for base, _ in _unmarked(_stem(path)))]


def _paired(title: str, images: dict[str, str], masks: dict[str, str], others: tuple[str, ...]) -> Pairs:
    table = _Names(images)
    found: dict[str, list[tuple[str, _Form]]] = defaultdict(list)  # each image's masks, and how they were found
    lost: list[str] = []
    for mask, name in sorted(masks.items(), key=lambda item: order_of(item[0])):
        matches, form = table.match(name)
        if len(matches) > 1:
            raise DatasetError(
                f"{title}: found the images {' and '.join(matches[:2])} for the one mask {mask}, expected one of them. "
                "Fix: rename one image and give it a mask of its own"
            )
        if matches:
            found[matches[0]].append((mask, form))
        else:
            lost.append(mask)
    for image, files in found.items():
        if len(files) > 1 and not _are_parts([form for _, form in files]):
            stem = PurePosixPath(image).stem
            raise DatasetError(
                f"{title}: found {len(files)} masks for {image}, such as {files[0][0]} and {files[1][0]}, expected "
                f"one. Fix: remove all but one; if each is one object, name them {stem}_mask1.png, {stem}_mask2.png "
                "and so on, and they are joined"
            )
    pairs = [Pair(image, tuple(mask for mask, _ in files)) for image, files in found.items()]
    missing = tuple(sorted((image for image in images if image not in found), key=order_of))
    return Pairs(_ordered(pairs), missing, tuple(lost), others)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a mask was found. Files of one image with the same `mark` and different `part` are objects to be joined."""

    mark: str = ""
    part: str = ""


def _are_parts(forms: Sequence[_Form]) -> bool:
    marks, parts = {form.mark for form in forms}, {form.part for form in forms}
    return len(marks) == 1 and "" not in marks and len(parts) == len(forms)


class _Names:
    """Looks up images by the name of a mask. Case is ignored unless two images differ in nothing else."""

    def __init__(self, images: dict[str, str]) -> None:
        folded = [_folded(name) for name in images.values()]
        self._key: Callable[[str], str] = _folded if len(set(folded)) == len(folded) else composed
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._bare: dict[str, list[str]] = defaultdict(list)
        for path, name in images.items():
            self._whole[self._key(name)].append(path)
            self._stems[self._key(_stem(name))].append(path)
            for bare in _bare(_stem(name)):
                self._bare[self._key(bare)].append(path)

    def match(self, name: str) -> tuple[list[str], _Form]:
        """The images that a mask of this name may belong to, and how it was found."""
        stem, folder = _stem(name), name.rpartition("/")[0]
        for table, key in ((self._whole, name), (self._whole, stem), (self._stems, stem)):
            if images := table.get(self._key(key)):
                return images, _Form()
        for base in (folder, *(base for base, _ in _unmarked(folder))) if folder else ():
            if images := self._whole.get(self._key(base)) or self._stems.get(self._key(base)):
                return images, _Form(f"folder {folder}", name)
        for base, form in _unmarked(stem):
            for table in (self._whole, self._stems, self._bare):
                if images := table.get(self._key(base)):
                    return images, form
        return [], _Form()


def _unmarked(stem: str) -> list[tuple[str, _Form]]:
    """The names that an image may have whose mask has this stem, each with the mark that was taken off."""
    folder, slash, name = stem.rpartition("/")
    found: list[tuple[str, _Form]] = []
    if match := _SUFFIXED.match(name):
        found.append((match["base"], _Form(match["mark"].casefold(), match["number"])))
    if match := _PREFIXED.match(name):
        found.append((match["base"] or match["digits"], _Form()))
    return [(f"{folder}{slash}{base}", form) for base, form in found]


def _bare(stem: str) -> list[str]:
    """The names that are left of image_000 and 000_image, so that they match mask_000 and 000_mask."""
    folder, slash, name = stem.rpartition("/")
    found = [match["after"] for match in [_OF_IMAGE.match(name)] if match]
    found += [match["before"] for match in [_IMAGE_LAST.match(name)] if match]
    return [f"{folder}{slash}{base}" for base in found]


def _stem(name: str) -> str:
    """The path without its suffix, if this is one of an image: 000.jpg.png has the stem 000.jpg."""
    lower = name.lower()
    suffix = max((suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _folded(name: str) -> str:
    return composed(name).casefold()


def _ordered(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: order_of(pair.image)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
