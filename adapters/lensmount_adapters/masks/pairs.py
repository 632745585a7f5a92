"""Find the mask files of each image by their folders and names.

The layouts: folders of images and folders of masks, as roles.py knows them; one folder per image with `images/` and
`masks/` in it, as in the Data Science Bowl 2018; and masks next to their images, told by a mark such as `_mask`.
Folders above or below them may state the parts of the split. names.py has the rules for names.

Several files of one image are joined if they are one object each: all in a folder named after the image, or numbered
(000_mask1.png, 000_mask2.png).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from lensmount_adapters.data.walk import is_input_name, order_of, passed_over_part
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES
from lensmount_adapters.masks.names import Form, Names, are_parts, is_train_ids, marked, no_masks
from lensmount_adapters.masks.roles import Place, left_out, meaning_of, place_of

LISTED = 10  # files named in one message


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the files of its mask, as paths below the root. Several files are objects to be joined.

    `part` is "train", "validation" or "test" if a folder states it.
    """

    image: str
    masks: tuple[str, ...]
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs in the order of their images.

    `without_mask` are images, `without_image` are masks of no image, and `ignored` are other files. `notes` are
    sentences on images and masks that are passed over.
    """

    pairs: tuple[Pair, ...]
    without_mask: tuple[str, ...]
    without_image: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...] = ()


def wrapping_folder(files: Iterable[str]) -> str:
    """The folders, each with its slash, that all files lie in; "" if there is none. Archives often have one."""
    prefix = ""
    visible = [path for path in files if passed_over_part(path) is None]
    while tops := {path[len(prefix) :].partition("/")[:2] for path in visible}:
        top, slash = next(iter(tops))
        if len(tops) > 1 or not slash or meaning_of(top)[0] is not None:
            break
        prefix += f"{top}/"
    return prefix


def find_pairs(title: str, files: Iterable[str]) -> Pairs:
    """Pair the files of a dataset. `title` is its name in messages.

    Raises DatasetError if there is no such layout, or if an image has two masks that are not parts of one.
    """
    visible = [path for path in files if passed_over_part(path) is None]
    inputs = [path for path in visible if is_input_name(path, IMAGE_SUFFIXES)]
    beside = set(no_masks(inputs))
    notes = _passed_over(beside, "are colours, objects or a second reader's masks")
    inputs = [path for path in inputs if path not in beside]
    others = tuple(path for path in visible if not is_input_name(path, IMAGE_SUFFIXES))
    places = _places(inputs)
    homes = _homes(places)
    if not homes:
        return _side_by_side(title, places, others, notes)
    if len(homes) > 1 and all(len(home.images) == 1 for home in homes.values()):
        return _folder_per_image(homes, others, notes)
    if "" not in homes and len(homes) > 1:
        folders = [root.rstrip("/") for root in homes]
        raise DatasetError(
            f"{title}: found {_listed(folders)}, each with images and masks, expected one of them. "
            f"Fix: give {title}/{folders[0]} as the data, or move the images together and the masks together"
        )
    home = homes["" if "" in homes else next(iter(homes))]
    notes += home.leave_out()
    table = Names({place.path: place.name for place in home.images})
    if not any(table.match(place.name)[0] for place in home.masks):
        home.masks = _without_common_folder(home.masks)
    if not home.masks and marked(place.path for place in home.images):
        return _side_by_side(title, home.images, (), notes)
    if not home.masks:
        raise _no_masks(title, home.images[0].folder, others)
    home.check_one_folder_each(title)
    used = {place.path for place in (*home.images, *home.masks)} | home.skipped
    notes += _passed_over([path for path in inputs if path not in used], "are neither below images nor below masks")
    inside = tuple({f"{place.folder}/" for place in (*home.images, *home.masks) if place.folder})
    return _paired(title, home.images, home.masks, tuple(path for path in others if path.startswith(inside)), notes)


def _passed_over(paths: Iterable[str], why: str) -> tuple[str, ...]:
    paths = sorted(paths, key=order_of)
    return (f"{len(paths)} file(s) {why} and are not used: {_listed(paths)}",) if paths else ()


def _places(inputs: Sequence[str]) -> list[Place]:
    """Folders state parts of the split only if those of images do: a folder of masks may be named after `test.png`."""
    places = [place_of(path) for path in inputs]
    images = [place for place in places if place.role == "image"] or [place for place in places if place.role is None]
    stated = {place.part for place in images} - {None}
    return places if stated else [place_of(path, parts=False) for path in inputs]


@dataclass(slots=True)
class _Home:
    """The images and the masks of a folder that has both."""

    images: list[Place] = field(default_factory=list)
    masks: list[Place] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)

    def leave_out(self) -> tuple[str, ...]:
        """Leave out folders that are not the label, and return notes that say so."""
        instead = left_out({place.folder for place in self.masks})
        self.skipped = {place.path for place in self.masks if place.folder in instead}
        self.masks = [place for place in self.masks if place.folder not in instead]
        return tuple(f"{folder} is not used, because {better} has the masks" for folder, better in instead.items())

    def check_one_folder_each(self, title: str) -> None:
        for places in (self.images, self.masks):
            folders: dict[str | None, list[str]] = defaultdict(list)
            for place in places:
                if place.folder and place.folder not in folders[place.part]:
                    folders[place.part].append(place.folder)
            for found in folders.values():
                if len(found) > 1:
                    raise DatasetError(
                        f"{title}: found the folders {' and '.join(found)}, expected one of them. "
                        "Fix: rename those that are not to be used"
                    )


def _no_masks(title: str, images: str, others: Sequence[str]) -> DatasetError:
    root = images.rpartition("/")[0]
    like = [path for path in others if place_of(path).role == "mask"]
    instead = f" (found {_listed(like)}, which are not images)" if like else ""
    return DatasetError(
        f"{title}: found no folder masks with images next to {f'{root}/' if root else ''}{PurePosixPath(images).name}"
        f"{instead}, expected images/ and masks/ with "
        f"files of the same names. Fix: put the mask of each image, as a PNG, into masks/ under the image's name"
        f"{_polygons(others)}"
    )


def _polygons(others: Sequence[str]) -> str:
    if not any(path.lower().endswith(".json") for path in others):
        return ""
    return (
        ". Polygons in JSON files, as LabelMe, Supervisely and COCO write them, are not read: export masks from the "
        "tool, or draw each polygon with Pillow's ImageDraw.Draw(mask).polygon(points, fill=1)"
    )


def _homes(places: Sequence[Place]) -> dict[str, _Home]:
    """Find each folder that has images, by its path with a slash; "" is the root.

    Without a folder called images, the images are the files that are not below a folder of masks.
    """
    homes: dict[str, _Home] = defaultdict(_Home)
    masks: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        if place.role == "image":
            homes[place.root].images.append(place)
        elif place.role == "mask":
            masks[place.root].append(place)
    if not homes:
        for place in places:
            if place.role is None and (root := _nearest(place, masks)) is not None:
                homes[root].images.append(_below(place, root))
        for home in homes.values():
            home.images = _without_common_folder(home.images)
    for root, home in homes.items():
        home.masks = masks[root]
    return dict(homes)


def _nearest(place: Place, roots: Mapping[str, object]) -> str | None:
    folders = place.name.removeprefix(f"{place.part}/").split("/")[:-1]
    above = ("".join(f"{name}/" for name in folders[:depth]) for depth in range(len(folders), -1, -1))
    return next((root for root in above if root in roots), None)


def _below(place: Place, root: str) -> Place:
    front = f"{place.part}/" if place.part else ""
    return Place(place.path, "image", place.part, "", root, front + place.name.removeprefix(front)[len(root) :])


def _without_common_folder(places: list[Place]) -> list[Place]:
    """Name the files by their names in the one folder that has them all, if there is one."""
    names = [place.name.removeprefix(f"{place.part}/") for place in places]
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or not all("/" in name for name in names):
        return places
    top = tops.pop()
    return [replace(place, name=place.name.replace(f"{top}/", "", 1)) for place in places]


def _folder_per_image(homes: dict[str, _Home], others: tuple[str, ...], notes: tuple[str, ...]) -> Pairs:
    """All files in an image's folder of masks are its objects."""
    pairs: list[Pair] = []
    missing: list[Place] = []
    for home in homes.values():
        (image,) = home.images
        if home.masks:
            objects = sorted((place.path for place in home.masks), key=order_of)
            pairs.append(Pair(image.path, tuple(objects), image.part))
        else:
            missing.append(image)
    return _complete(pairs, missing, (), others, notes)


def _side_by_side(title: str, places: Sequence[Place], others: tuple[str, ...], notes: tuple[str, ...]) -> Pairs:
    """Masks lie next to their images: a file is a mask if its name without mark is that of another file."""
    names = set(marked(place.name for place in places))
    masks = [place for place in places if place.name in names]
    images = [place for place in places if place.name not in names]
    if not masks:
        tops = sorted({place.path.partition("/")[0] for place in places if "/" in place.path})
        found = f" (found the folders {_listed(tops)})" if tops else ""
        raise DatasetError(
            f"{title}: found no folder images with images in it{found}, expected images/ and masks/ with files of the "
            "same names. Fix: put the images into images/ and the mask of each into masks/ under the image's name, or "
            f"put the mask of 000.png next to it as 000_mask.png{_polygons(others)}"
        )
    return _paired(title, images, masks, others, notes)


def _paired(
    title: str, images: Sequence[Place], masks: Sequence[Place], others: tuple[str, ...], notes: tuple[str, ...]
) -> Pairs:
    if strange := [mask.path for mask in masks if is_train_ids(mask.path)]:
        raise DatasetError(
            f"{title}: found {strange[0]}, in which 0 is road and 255 is nothing, expected 0 for background. "
            "Fix: use the files that end in _labelIds.png"
        )
    table = Names({place.path: place.name for place in images})
    found: dict[str, list[tuple[str, Form]]] = defaultdict(list)  # each image's masks, and how they were found
    lost: list[str] = []
    for mask in sorted(masks, key=lambda place: order_of(place.path)):
        matches, form = table.match(mask.name)
        if len(matches) > 1:
            raise DatasetError(
                f"{title}: found the images {' and '.join(matches[:2])} for the one mask {mask.path}, expected one of "
                "them. Fix: rename one image and give it a mask of its own"
            )
        if matches:
            found[matches[0]].append((mask.path, form))
        else:
            lost.append(mask.path)
    for image, files in found.items():
        if len(files) > 1 and not are_parts([form for _, form in files]):
            raise _two_masks(title, image, [mask for mask, _ in files])
    pairs = [
        Pair(place.path, tuple(mask for mask, _ in found[place.path]), place.part)
        for place in images
        if place.path in found
    ]
    missing = [place for place in images if place.path not in found]
    return _complete(pairs, missing, lost, others, notes)


def _two_masks(title: str, image: str, masks: Sequence[str]) -> DatasetError:
    stem = PurePosixPath(image).stem
    return DatasetError(
        f"{title}: found {len(masks)} masks for {image}, such as {masks[0]} and {masks[1]}, expected "
        f"one. Fix: remove all but one; if each is one object, name them {stem}_mask1.png, {stem}_mask2.png "
        "and so on, and they are joined"
    )


def _complete(
    pairs: Sequence[Pair],
    missing: Sequence[Place],
    lost: Sequence[str],
    others: tuple[str, ...],
    notes: tuple[str, ...],
) -> Pairs:
    """Order the pairs. A test part without any mask, as competitions publish it, is left out with a note."""
    if pairs and all(pair.part != "test" for pair in pairs):
        hidden = [place.path for place in missing if place.part == "test"]
        missing = [place for place in missing if place.part != "test"]
        notes += _passed_over(hidden, "of the part test have no masks")
    return Pairs(
        tuple(sorted(pairs, key=lambda pair: order_of(pair.image))),
        tuple(sorted((place.path for place in missing), key=order_of)),
        tuple(lost),
        others,
        notes,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
