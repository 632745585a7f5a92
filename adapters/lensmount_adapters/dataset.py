"""A folder of class folders as a dataset: what it holds, whether it can be trained on, its pixels in memory."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.images import decode_image, resize
from lensmount_adapters.manifest import Preprocessing

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".jfif"})
LISTED = 10  # files named in one message


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file: path below the dataset's root, class index, group and SHA-256 of its bytes."""

    path: str
    label: int
    group: str
    digest: str


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """`DIR/CLASS/**/image` on disk.

    >>> folder = read_folder(Path("malaria-nih"), r"^(.*?)_?[tT]hin")      # doctest: +SKIP
    >>> folder.classes, folder.counts()                                    # doctest: +SKIP
    (('Parasitized', 'Uninfected'), {'Parasitized': 151, 'Uninfected': 128})

    Classes are the sorted names of the class folders; samples stand in the order of their paths. `notes` are
    sentences for the user: duplicates, files that are no images.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        """SHA-256 over every path and content: the identity of the data, wherever the folder lies."""
        return digest_of_samples(self.samples)

    def labels(self) -> Tensor:
        """Class indices [N], int64."""
        return torch.tensor([sample.label for sample in self.samples])

    def counts(self) -> dict[str, int]:
        found = Counter(sample.label for sample in self.samples)
        return {name: found[index] for index, name in enumerate(self.classes)}


def digest_of_samples(samples: Iterable[Sample]) -> str:
    hasher = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.path):
        hasher.update(f"{sample.path}\0{sample.digest}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def read_folder(root: Path, group_regex: str | None = None, classes: Sequence[str] | None = None) -> ImageFolder:
    """The image folder at `root`; no pixels are decoded yet.

    `group_regex` is searched in each file's name; its first group (or the whole match) names what must not be split
    between training and test: the patient, the slide, the source tile. Byte-identical files share a group as well.
    `classes`, where given, are the labels the folder must have (those of an adapter to evaluate).
    Raises DatasetError where there is nothing to train on or a name does not match the expression.
    """
    names, files, skipped = _list_files(root)
    if classes is not None:
        names, files = _like(root, tuple(classes), files)
    pattern = _compile(group_regex)
    samples = [
        Sample(
            path=path.relative_to(root).as_posix(),
            label=label,
            group=_group(pattern, path, root),
            digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for label, paths in enumerate(files)
        for path in paths
    ]
    joined, notes = _join_duplicates(samples, names)
    if skipped:
        notes.append(f"{len(skipped)} file(s) are no images by their suffix and were passed over: {_some(skipped)}")
    return ImageFolder(root, names, joined, tuple(notes))


def read_pixels(folder: ImageFolder, samples: Sequence[Sample], rule: Preprocessing) -> Tensor:
    """Images as the backbone will see them, before normalisation: uint8 [N, 3, height, width].

    Raises DatasetError that lists the files that cannot be read.
    """
    height, width = rule.size
    pixels = torch.empty(len(samples), 3, height, width, dtype=torch.uint8)
    broken: list[str] = []
    for index, sample in enumerate(samples):
        try:
            image = decode_image((folder.root / sample.path).read_bytes())
        except (ImageError, OSError) as error:
            broken.append(f"{sample.path} ({error})")
            continue
        pixels[index] = torch.from_numpy(np.array(resize(image, rule))).permute(2, 0, 1)
    if broken:
        raise DatasetError(
            f"{folder.root}: {len(broken)} of {len(samples)} images cannot be read:\n  "
            + "\n  ".join(broken[:LISTED])
            + ("\n  ..." if len(broken) > LISTED else "")
            + "\nCure: repair or remove these files"
        )
    return pixels


def normalise(pixels: Tensor, rule: Preprocessing) -> Tensor:
    """uint8 or [0, 1] pixels [N, 3, H, W] to the backbone's input, the same bits as `images.preprocess`."""
    x = pixels.to(torch.float32).div(255) if pixels.dtype is torch.uint8 else pixels
    mean = torch.tensor(rule.mean, device=x.device).view(3, 1, 1)
    std = torch.tensor(rule.std, device=x.device).view(3, 1, 1)
    return (x - mean) / std


def _list_files(root: Path) -> tuple[tuple[str, ...], list[list[Path]], list[str]]:
    """Class names, image files of each class, and the files passed over."""
    if not root.is_dir():
        raise DatasetError(f"{root}: found no folder, expected one with a folder of images for each class")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DatasetError(
            f"{root}: found no class folders, expected at least two. Cure: put the images of each class into a folder "
            f"named after it: {root}/cat/1.jpg, {root}/dog/1.jpg"
        )
    if len(folders) == 1:
        raise DatasetError(
            f"{root}: found one class folder ({folders[0].name}), expected at least two. "
            "Cure: add a folder with images of what it is to be told from"
        )
    inside = [sorted(path for path in folder.rglob("*") if _is_file(path)) for folder in folders]
    files = [[path for path in paths if path.suffix.lower() in SUFFIXES] for paths in inside]
    skipped = [
        path.relative_to(root).as_posix() for paths in inside for path in paths if path.suffix.lower() not in SUFFIXES
    ]
    if empty := [folder.name for folder, paths in zip(folders, files, strict=True) if not paths]:
        raise DatasetError(
            f"{root}: found no images in {_some(empty)}, expected {', '.join(sorted(SUFFIXES))} files. "
            "Cure: add images or remove the folder"
        )
    return tuple(folder.name for folder in folders), files, skipped


def _like(root: Path, classes: tuple[str, ...], files: list[list[Path]]) -> tuple[tuple[str, ...], list[list[Path]]]:
    """The files in the order of `classes`: the folder may lack a class, but may not hold a further one."""
    by_name = {paths[0].relative_to(root).parts[0]: paths for paths in files}
    if unknown := sorted(by_name.keys() - set(classes)):
        raise DatasetError(
            f"{root}: found the class folder(s) {_some(unknown)}, expected the adapter's labels: {', '.join(classes)}. "
            "Cure: rename the folders after the labels"
        )
    return classes, [by_name.get(name, []) for name in classes]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _compile(expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        return re.compile(expression)
    except re.error as error:
        raise DatasetError(f"--group-regex {expression!r} is no regular expression: {error}") from error


def _group(pattern: re.Pattern[str] | None, path: Path, root: Path) -> str:
    if pattern is None:
        return path.relative_to(root).as_posix()
    match = pattern.search(path.name)
    if match is None:
        raise DatasetError(
            f"--group-regex {pattern.pattern!r} does not match {path.name!r}, expected it to find the group in every "
            "file name. Cure: widen the expression"
        )
    return str(match.group(1) if pattern.groups else match.group(0))


def _join_duplicates(samples: list[Sample], classes: Sequence[str]) -> tuple[tuple[Sample, ...], list[str]]:
    """Give byte-identical files one group, so that no picture can stand in two parts; say what was found."""
    by_digest: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_digest[sample.digest].append(sample)
    copies = [found for found in by_digest.values() if len(found) > 1]
    if not copies:
        return tuple(samples), []
    parent = {sample.group: sample.group for sample in samples}

    def root_of(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for found in copies:
        first = root_of(found[0].group)
        for other in found[1:]:
            parent[root_of(other.group)] = first
    notes = [
        f"{sum(len(found) - 1 for found in copies)} image(s) are byte-identical copies, such as "
        f"{copies[0][0].path} and {copies[0][1].path}; copies stay together in one part of the split"
    ]
    if torn := [found for found in copies if len({sample.label for sample in found}) > 1]:
        labels = " and ".join(sorted({classes[sample.label] for sample in torn[0]}))
        notes.append(f"{len(torn)} picture(s) stand in two classes, such as {torn[0][0].path} ({labels}): check them")
    joined = (Sample(s.path, s.label, root_of(s.group), s.digest) for s in samples)
    return tuple(joined), notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
