"""Which image a mask belongs to, by their names.

Names match if they are equal without suffix, or with a mark: 000_mask.png, 000_seg.png, mask_000.png, 000.jpg.png.
Upper and lower case count only where two images differ in nothing else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lensmount_adapters.data.walk import composed
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES

_MARK = (
    r"(?:cp_)?masks?|seg|segs|segmentations?|segmented|labels?|gt|ground[_-]?truth|annotations?|annots?|anno|instances?"
    r"|objects?|roi|lesion|gt(?:fine|coarse)[_-]\w+|label(?:train)?ids|matte|manual\d?|1stho"
)
_SUFFIXED = re.compile(rf"^(?P<base>.+?)[ _.-]+(?P<mark>{_MARK})[ _.-]?(?P<number>\d*)$", re.IGNORECASE)
_PREFIXED = re.compile(rf"^(?P<mark>{_MARK})(?:[ _.-]+(?P<base>.+)|(?P<digits>\d+))$", re.IGNORECASE)
_SHORT = re.compile(r"^(?P<base>.+)_(?P<mark>L)$")  # of CamVid; too short to tell a mask that lies next to its image
_IMAGE = r"images?|imgs?|im|frame|photo|raw|leftimg8bit|training|test|sat"
_OF_IMAGE = re.compile(rf"^(?:{_IMAGE})[ _.-]?(?P<after>.+)$", re.IGNORECASE)
_IMAGE_LAST = re.compile(rf"^(?P<before>.+?)[ _.-]+(?:{_IMAGE}|0000)$", re.IGNORECASE)  # 0000 is nnU-Net's channel
_PICTURES = re.compile(
    r"^(?P<base>.+)_(?:gt(?:fine|coarse)_(?:color|instanceids|labeltrainids)|superpixels|2ndho|manual2)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a mask was found. Files of one image with the same `mark` and different `part` are objects to be joined."""

    mark: str = ""
    part: str = ""


def are_parts(forms: Sequence[Form]) -> bool:
    """Whether files that were found in these ways are one object each."""
    marks, parts = {form.mark for form in forms}, {form.part for form in forms}
    return len(marks) == 1 and "" not in marks and len(parts) == len(forms)


class Names:
    """Looks up images by the name of a mask. Case is ignored unless two images differ in nothing else."""

    def __init__(self, images: dict[str, str]) -> None:
        folded = [_folded(name) for name in images.values()]
        self._key: Callable[[str], str] = _folded if len(set(folded)) == len(folded) else composed
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._bare: dict[str, list[str]] = defaultdict(list)
        for path, name in images.items():
            self._whole[self._key(name)].append(path)
            self._stems[self._key(stem_of(name))].append(path)
            for bare in _bare(stem_of(name)):
                self._bare[self._key(bare)].append(path)

    def match(self, name: str) -> tuple[list[str], Form]:
        """The images that a mask of this name may belong to, and how it was found."""
        stem, folder = stem_of(name), name.rpartition("/")[0]
        for table, key in ((self._whole, name), (self._whole, stem), (self._stems, stem)):
            if images := table.get(self._key(key)):
                return images, Form()
        for base in (folder, *(base for base, _ in unmarked(folder))) if folder else ():
            if images := self._whole.get(self._key(base)) or self._stems.get(self._key(base)):
                return images, Form(f"folder {folder}", name)
        short = [(f"{match['base']}", Form("l")) for match in [_SHORT.match(stem)] if match]
        for base, form in (*unmarked(stem), *short, *((bare, Form()) for bare in (stem, *_bare(stem)))):
            for table in (self._whole, self._stems, self._bare):
                if images := table.get(self._key(base)):
                    return images, form
        return [], Form()


def unmarked(stem: str) -> list[tuple[str, Form]]:
    """The names that an image may have whose mask has this stem, each with the mark that was taken off."""
    folder, slash, name = stem.rpartition("/")
    found: list[tuple[str, Form]] = []
    if match := _SUFFIXED.match(name):
        mark, number = match["mark"].casefold(), match["number"]
        reader = mark.startswith("manual")  # 01_manual1 and 01_manual2 are two readers' masks, not two objects
        form = Form(mark + number) if reader else Form(mark, number)
        found += [(base, form) for base in (match["base"], *_bare(match["base"]))]
    if match := _PREFIXED.match(name):
        found.append((match["base"] or match["digits"], Form()))
    return [(f"{folder}{slash}{base}", form) for base, form in found]


def marked(inputs: Iterable[str]) -> list[str]:
    """The files whose name, without a mark, is that of another file."""
    inputs = list(inputs)
    names = {composed(stem_of(path)) for path in inputs} | {composed(path) for path in inputs}
    names |= {composed(bare) for path in inputs for bare in _bare(stem_of(path)) if not unmarked(stem_of(path))}
    return [path for path in inputs if any(composed(base) in names for base, _ in unmarked(stem_of(path)))]


def is_train_ids(path: str) -> bool:
    """Whether this is a mask of Cityscapes in which 0 is road, not background."""
    return stem_of(path).casefold().endswith("_labeltrainids")


def no_masks(files: Iterable[str]) -> list[str]:
    """Files that common datasets keep next to the masks: Cityscapes' colours and objects, a second reader's masks.

    They are passed over if the image or the mask itself is there.
    """
    files = list(files)
    stems = {composed(stem_of(path)).casefold().rpartition("/")[2] for path in files}
    found = []
    for path in files:
        name = composed(stem_of(path)).casefold().rpartition("/")[2]
        if match := _PICTURES.match(name):
            base = match["base"]
            bare = base.removesuffix("_leftimg8bit")
            known = {base, f"{bare}_gtfine_labelids", f"{bare}_gtcoarse_labelids", f"{base}_manual1", f"{base}_1stho"}
            if stems & known - {name}:
                found.append(path)
    return found


def stem_of(name: str) -> str:
    """The path without its suffix, if this is one of an image: 000.jpg.png has the stem 000.jpg."""
    lower = name.lower()
    suffix = max((suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _bare(stem: str) -> list[str]:
    """The names that are left of image_000 and 000_image, so that they match mask_000 and 000_mask."""
    folder, slash, name = stem.rpartition("/")
    found = [match["after"] for match in [_OF_IMAGE.match(name)] if match]
    found += [match["before"] for match in [_IMAGE_LAST.match(name)] if match]
    return [f"{folder}{slash}{base}" for base in found]


def _folded(name: str) -> str:
    return composed(name).casefold()
