"""A dataset of labelled images: list it, check that it can be trained on, and read its pixels into memory."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lensmount_adapters.data.labels import LABEL_FILES, check_label, read_rows
from lensmount_adapters.data.source import ArchiveSource, FolderSource, Source, is_input_name, order_of
from lensmount_adapters.data.zip_reader import ArchiveLimits, open_archive
from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES
from lensmount_adapters.inputs.prepare import pixels_of
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.patterns import compile_pattern

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
) -> ImageFolder:
    """Read the dataset at `root`: a folder, a file of labels in a folder, or a zip file. No pixels are decoded yet.

    `group_regex` is searched in each file's name. Its first group (or the whole match) names the unit that must not be
    split between training and test: the patient, the slide, the source tile. A group stated in a file of labels takes
    precedence, and byte-identical files also share a group.
    `classes`, if given, are the labels that the dataset may have (those of an adapter to evaluate). `suffixes` are the
    file name suffixes of the inputs (`inputs.suffixes_of`).
    Raises DatasetError if there is nothing to train on or a name does not match the expression.
    """
    try:
        listed = list_folder(root, suffixes=suffixes)
    except OSError as error:
        raise DatasetError(f"{root}: cannot be read ({error.strerror})") from error
    names = _expected_classes(listed, tuple(classes)) if classes is not None else listed.classes
    index = {name: number for number, name in enumerate(names)}
    pattern = compile_pattern(group_regex, DatasetError, "--group-regex")
    samples = [
        Sample(
            path=file.path,
            label=index[file.label],
            group=_group(pattern, file.path) if file.group is None else file.group,
            digest=hashlib.sha256(_bytes(listed.source, file.path)).hexdigest(),
            split=file.split,
            label_name=None if file.path.startswith(f"{file.label}/") else file.label,
        )
        for file in sorted(listed.files, key=lambda file: index[file.label])  # stable, so paths stay in order
    ]
    joined, notes = _join_duplicates(samples, names)
    if listed.ignored:
        notes.append(
            f"{len(listed.ignored)} file(s) were ignored, because their suffix or folder is not that of an image: "
            f"{_examples(listed.ignored)}"
        )
    return ImageFolder(root, names, joined, listed.source, tuple(notes))


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image file with its label and, if stated, its group and split."""

    path: str
    label: str
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A dataset before its files are read. The files are ordered by class, then by path.

    `ignored` are files that are not images or belong to no class. `hidden` are files that operating systems leave.
    """

    source: Source
    classes: tuple[str, ...]
    files: tuple[Labelled, ...]
    ignored: tuple[str, ...]
    hidden: tuple[str, ...]


def list_folder(
    root: Path,
    limits: ArchiveLimits | None = None,
    title: str | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> Listed:
    """List what `read_folder` will read. `limits` apply to a zip file; `title` is its name in messages.

    Raises DatasetError, OSError.
    """
    if root.is_dir():
        return _listed(FolderSource(root), suffixes)
    if not root.exists():
        raise DatasetError(f"{root}: found no folder, expected one with a subfolder of images for each class")
    if root.suffix.lower() in (".csv", ".jsonl"):
        return _by_labels(FolderSource(root.parent), root.name, suffixes)
    source = ArchiveSource.open(open_archive(root, limits or _OWN_DISK), title or str(root), LABEL_FILES)
    return _listed(source, suffixes)


def read_pixels(folder: ImageFolder, samples: Sequence[Sample], rule: InputRule) -> Tensor:
    """Read the inputs at the backbone's size, before normalisation.

    Images: uint8 [N, 3, height, width]. Volumes: float32 [N, 1, depth, height, width] in [0, 1], or three channels if
    any volume is in colour. Raises a DatasetError that lists the files that cannot be read.
    """
    grey, dtype = (1, torch.float32) if isinstance(rule, VolumePreprocessing) else (3, torch.uint8)
    pixels = torch.empty(len(samples), grey, *rule.input_shape[1:], dtype=dtype)
    broken: list[str] = []
    for index, sample in enumerate(samples):
        try:
            decoded = pixels_of(folder.read(sample.path), rule)
        except (ImageError, DatasetError, OSError) as error:
            broken.append(f"{sample.path} ({error})")
            continue
        if len(decoded) > pixels.shape[1]:
            pixels = pixels.expand(-1, len(decoded), *pixels.shape[2:]).contiguous()
        pixels[index] = decoded
    if broken:
        raise DatasetError(
            f"{folder.root}: {len(broken)} of {len(samples)} images cannot be read:\n  "
            + "\n  ".join(broken[:LISTED])
            + ("\n  ..." if len(broken) > LISTED else "")
            + "\nFix: repair or remove these files"
        )
    return pixels


def _listed(source: Source, suffixes: tuple[str, ...]) -> Listed:
    """List a source by its file of labels, or by its folders if it has none."""
    label_files = [name for name in LABEL_FILES if source.has(name)]
    if len(label_files) > 1:
        raise DatasetError(f"{source.title}: found {' and '.join(label_files)}, expected one file of labels")
    return _by_labels(source, label_files[0], suffixes) if label_files else _by_folders(source, suffixes)


def _by_folders(source: Source, suffixes: tuple[str, ...]) -> Listed:
    """Take the classes from the folders directly below the root."""
    title, listing = source.title, source.list()
    if not listing.folders:
        raise DatasetError(
            f"{title}: found no class folders, expected at least two. Fix: put the images of each class into a folder "
            "named after it: cat/1.jpg, dog/1.jpg",
            code="dataset_too_small",
        )
    if len(listing.folders) == 1:
        raise DatasetError(
            f"{title}: found one class folder ({listing.folders[0]}), expected at least two. "
            "Fix: add a folder with images of another class",
            code="dataset_too_small",
        )
    inputs = [path for path in listing.files if "/" in path and is_input_name(path, suffixes)]
    files = [Labelled(path, path.split("/", 1)[0]) for path in inputs]
    filled = {file.label for file in files}
    if empty := [name for name in listing.folders if name not in filled]:
        raise DatasetError(
            f"{title}: found no images in {_examples(empty)}, expected {', '.join(sorted(suffixes))} files. "
            "Fix: add images or remove the folder",
            code="dataset_too_small",
        )
    for name in listing.folders:
        if why := check_label(name):
            raise DatasetError(f"{title}: {why} (a class folder's name)")
    ignored = tuple(sorted(set(listing.files) - set(inputs), key=order_of))
    return Listed(source, listing.folders, tuple(files), ignored, listing.hidden)


def _by_labels(source: Source, name: str, suffixes: tuple[str, ...]) -> Listed:
    """Take the classes from the rows of a file of labels next to the images."""
    title = source.title
    rows = read_rows(name, _bytes(source, name))
    for row in rows:
        if not is_input_name(row.path, suffixes):
            raise DatasetError(
                f"{name}, row {row.number}: found {row.path[:80]!r}, expected a name that ends in "
                f"{', '.join(sorted(suffixes))}"
            )
        if not source.has(row.path):
            raise DatasetError(f"{name}, row {row.number}: found no file {row.path[:80]!r} next to {name}")
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise DatasetError(
            f"{title}: found one label ({classes[0]}) in {name}, expected at least two. "
            "Fix: add images of another class",
            code="dataset_too_small",
        )
    index = {label: number for number, label in enumerate(classes)}
    rows = sorted(rows, key=lambda row: (index[row.label], order_of(row.path)))
    files = tuple(Labelled(row.path, row.label, row.group, row.split) for row in rows)
    if isinstance(source, FolderSource):
        return Listed(source, classes, files, (), ())  # a selection; the folder may contain other files
    listing, stated = source.list(), {row.path for row in rows}
    left = [path for path in listing.files if path not in stated and path != name]
    if unlabelled := [path for path in left if is_input_name(path, suffixes)]:
        raise DatasetError(
            f"{name} (last row {max(row.number for row in rows)}): found no row for {len(unlabelled)} image(s), "
            f"such as {unlabelled[0][:80]!r}, expected one for each. Fix: add the rows or leave the images out"
        )
    return Listed(source, classes, files, tuple(left), listing.hidden)


def _bytes(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except OSError as error:
        raise DatasetError(f"{source.title}: {path[:80]!r} cannot be read ({error.strerror})") from error


def _expected_classes(listed: Listed, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Use the adapter's labels as classes. The dataset may lack some of them, but must not have others."""
    if unknown := sorted(set(listed.classes) - set(classes)):
        raise DatasetError(
            f"{listed.source.title}: found the class folder(s) {_examples(unknown)}, expected the adapter's labels: "
            f"{', '.join(classes)}. Fix: rename the folders after the labels"
        )
    return classes


def _group(pattern: re.Pattern[str] | None, path: str) -> str:
    if pattern is None:
        return path
    name = path.rpartition("/")[2]
    match = pattern.search(name)
    if match is None:
        raise DatasetError(
            f"--group-regex {pattern.pattern!r} does not match {name!r}, expected it to find the group in every "
            "file name. Fix: widen the expression"
        )
    return str(match.group(1) if pattern.groups else match.group(0))


def _join_duplicates(samples: list[Sample], classes: Sequence[str]) -> tuple[tuple[Sample, ...], list[str]]:
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
