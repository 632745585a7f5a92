"""A dataset of labelled images: list it, check that it can be trained on, and read its pixels into memory."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from lensmount_adapters.data.broken_files import Unreadable, broken_files
from lensmount_adapters.data.layout import Labelled
from lensmount_adapters.data.listing import FolderSource, Listed, Source, counted, list_source
from lensmount_adapters.data.source import ArchiveSource
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.groups.group_search import group_of
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.prepare import pixels_of
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.patterns import compile_pattern
from lensmount_adapters.zips.reader import ArchiveLimits, open_archive

__all__ = [
    "ImageFolder",
    "Labelled",
    "Listed",
    "Sample",
    "digest_of_samples",
    "list_folder",
    "read_folder",
    "read_pixels",
]

LISTED = 10  # files named in one message
_OWN_DISK = ArchiveLimits(max_entries=10**7, max_total_bytes=2**50, max_entry_bytes=2**30)  # a local file may be large


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file: path below the dataset's root, class index, group and SHA-256 of its bytes.

    `split` is the part that a file of labels assigns it to ("train", "validation", "test"). `label_name` is set only
    if the path does not begin with the label.
    """

    path: str
    label: int
    group: str
    digest: str
    split: str | None = None
    label_name: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Labelled images in a folder or a zip file.

    Labels come from the folders (`DIR/CLASS/**/image`) or from `manifest.csv`, `labels.csv` or `manifest.jsonl`.

    >>> folder = read_folder(Path("malaria-nih"), r"^(.*?)_?[tT]hin")      # doctest: +SKIP
    >>> folder.classes, folder.counts()                                    # doctest: +SKIP
    (('Parasitized', 'Uninfected'), {'Parasitized': 151, 'Uninfected': 128})

    Classes are the sorted labels. Samples are ordered by class, then by path. `notes` are sentences for the user, about
    duplicates and files that are not images.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    source: Source
    notes: tuple[str, ...] = ()
    limits: ImageLimits = field(default_factory=ImageLimits)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        """SHA-256 over every path and content. It identifies the data, whether in a folder or in a zip file."""
        return digest_of_samples(self.samples)

    def read(self, path: str) -> bytes:
        """Read the bytes of an image file. Safe from any thread. Raises DatasetError or OSError."""
        return self.source.read(path)

    def labels(self) -> Tensor:
        """Class indices [N], int64."""
        return torch.tensor([sample.label for sample in self.samples])

    def counts(self) -> dict[str, int]:
        """Return the number of samples per class."""
        counted = Counter(sample.label for sample in self.samples)
        return {name: counted[index] for index, name in enumerate(self.classes)}


def digest_of_samples(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 over path, content and stated label of each sample, in the order of paths."""
    hasher = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.path):
        stated = "" if sample.label_name is None else f"\0{sample.label_name}"
        hasher.update(f"{sample.path}\0{sample.digest}{stated}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def read_folder(
    root: Path,
    group_regex: str | None = None,
    classes: Sequence[str] | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    class_depth: int | None = None,
    limits: ImageLimits | None = None,
) -> ImageFolder:
    """Read the dataset at `root`: a folder, a file of labels in a folder, or a zip file. No pixels are decoded yet.

    `group_regex` is searched in each file's name, and if that does not match, in its path below the dataset. Its first
    group (or the whole match) names the unit that must not be split between training and test: the patient, the slide,
    the source tile. A group stated in a file of labels takes precedence, and byte-identical files also share a group.
    `class_depth` is how many levels of folders name the class: 1 for `lung/1.png`, 2 for `lung/aca/1.png`.
    `classes`, if given, are the labels that the dataset may have (those of an adapter to evaluate). `suffixes` are the
    file name suffixes of the inputs (`inputs.suffixes_of`). `limits` hold when the images are decoded.
    Raises DatasetError if there is nothing to train on or a name does not match the expression.
    """
    try:
        listed = list_folder(root, suffixes=suffixes, class_depth=class_depth)
    except OSError as error:
        raise DatasetError(f"{root}: cannot be read ({error.strerror}). Fix: permit reading it") from error
    names = _expected_classes(listed, tuple(classes)) if classes is not None else listed.classes
    index = {name: number for number, name in enumerate(names)}
    pattern = compile_pattern(group_regex, DatasetError, "--group-regex")
    samples = [
        Sample(
            path=file.path,
            label=index[file.label],
            group=file.group if file.group is not None else (group_of(pattern, file.path) if pattern else file.path),
            digest=hashlib.sha256(_bytes(listed.source, file.path)).hexdigest(),
            split=file.split,
            label_name=None if file.path.partition("/")[0] == file.label else file.label,
        )
        for file in sorted(listed.files, key=lambda file: index[file.label])  # stable, so paths stay in order
    ]
    joined, notes = join_duplicates(samples, names)
    if isinstance(listed.source, ArchiveSource):
        notes.extend(listed.source.archive.notes)
    notes += listed.notes
    if listed.left_out:
        examples = _examples((*listed.ignored, *listed.hidden))
        notes.append(f"Files that were left out: {counted(listed.left_out)} (such as {examples})")
    return ImageFolder(root, names, joined, listed.source, tuple(notes), limits or ImageLimits())


def list_folder(
    root: Path,
    limits: ArchiveLimits | None = None,
    title: str | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    class_depth: int | None = None,
) -> Listed:
    """List what `read_folder` will read. `limits` apply to a zip file; `title` is its name in messages.

    Raises DatasetError, OSError.
    """
    if root.is_dir():
        return list_source(FolderSource(root), suffixes, class_depth)
    if not root.exists():
        raise DatasetError(
            f"{root}: found no folder, expected one with a subfolder of images for each class. Fix: correct the path"
        )
    if root.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        return list_source(FolderSource(root.parent), suffixes, class_depth, root.name)
    archive = open_archive(root, limits or _OWN_DISK)
    return list_source(ArchiveSource(archive, title or str(root)), suffixes, class_depth)


def read_pixels(folder: ImageFolder, samples: Sequence[Sample], rule: InputRule) -> Tensor:
    """Read the inputs at the backbone's size, before normalisation.

    Images: uint8 [N, 3, height, width]. Volumes: float32 [N, 1, depth, height, width] in [0, 1], or three channels if
    any volume is in colour. If one cannot be read, raises a DatasetError that lists all such files of the dataset.
    """
    grey, dtype = (1, torch.float32) if isinstance(rule, VolumePreprocessing) else (3, torch.uint8)
    pixels = torch.empty(len(samples), grey, *rule.input_shape[1:], dtype=dtype)
    for index, sample in enumerate(samples):
        try:
            decoded = pixels_of(folder.read(sample.path), rule, folder.limits)
        except (ImageError, DatasetError, OSError):
            require_readable(folder, rule)
            raise
        if len(decoded) > pixels.shape[1]:
            pixels = pixels.expand(-1, len(decoded), *pixels.shape[2:]).contiguous()
        pixels[index] = decoded
    return pixels


def require_readable(folder: ImageFolder, rule: InputRule) -> None:
    """Read every file of the dataset. Raises a DatasetError that lists all that cannot be read, and what they are."""
    broken: list[Unreadable] = []
    for sample in folder.samples:
        try:
            pixels_of(folder.read(sample.path), rule, folder.limits)
        except (ImageError, DatasetError, OSError) as error:
            broken.append(Unreadable(sample.path, str(error)))
    if broken:
        raise DatasetError(f"{broken_files(str(folder.root), len(folder), broken)}\nFix: repair or remove these files")


def _bytes(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except OSError as error:
        raise DatasetError(
            f"{source.title}: {path[:80]!r} cannot be read ({error.strerror}). Fix: permit reading it"
        ) from error


def _expected_classes(listed: Listed, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Use the adapter's labels as classes. The dataset may lack some of them, but must not have others."""
    if unknown := sorted(set(listed.classes) - set(classes)):
        raise DatasetError(
            f"{listed.source.title}: found the class folder(s) {_examples(unknown)}, expected the adapter's labels: "
            f"{', '.join(classes)}. Fix: rename the folders after the labels"
        )
    return classes


def join_duplicates(samples: list[Sample], classes: Sequence[str]) -> tuple[tuple[Sample, ...], list[str]]:
    """Give byte-identical files one group, so that no image can be in two parts, and return notes about them."""
    by_digest: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_digest[sample.digest].append(sample)
    copies = [same for same in by_digest.values() if len(same) > 1]
    if not copies:
        return tuple(samples), []
    parent = {sample.group: sample.group for sample in samples}

    def root_of(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for same in copies:
        first = root_of(same[0].group)
        for other in same[1:]:
            parent[root_of(other.group)] = first
    notes = [
        f"{sum(len(same) - 1 for same in copies)} image(s) are byte-identical copies, such as "
        f"{copies[0][0].path} and {copies[0][1].path}; copies stay together in one part of the split"
    ]
    if conflicts := [same for same in copies if len({sample.label for sample in same}) > 1]:
        labels = " and ".join(sorted({classes[sample.label] for sample in conflicts[0]}))
        notes.append(
            f"{len(conflicts)} image(s) are in two classes, such as {conflicts[0][0].path} ({labels}). "
            "Fix: check their labels"
        )
    return tuple(replace(sample, group=root_of(sample.group)) for sample in samples), notes


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
