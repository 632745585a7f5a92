"""Images with labels as a dataset: what it holds, whether it can be trained on, its pixels in memory."""

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

LISTED = 10  # files named in one message
_OWN_DISK = ArchiveLimits(max_entries=10**7, max_total_bytes=2**50, max_entry_bytes=2**30)  # one's own file may be big


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file: path below the dataset's root, class index, group and SHA-256 of its bytes.

    `split` is the part that a file of labels puts it in ("train", "validation", "test"); `label_name` stands only where
    the path does not begin with it.
    """

    path: str
    label: int
    group: str
    digest: str
    split: str | None = None
    label_name: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Labelled images: `DIR/CLASS/**/image`, or as a `manifest.csv`, `labels.csv` or `manifest.jsonl` says; or a zip.

    >>> folder = read_folder(Path("malaria-nih"), r"^(.*?)_?[tT]hin")      # doctest: +SKIP
    >>> folder.classes, folder.counts()                                    # doctest: +SKIP
    (('Parasitized', 'Uninfected'), {'Parasitized': 151, 'Uninfected': 128})

    Classes are the sorted labels; samples stand class by class in the order of their paths. `notes` are sentences for
    the user: duplicates, files that are no images.
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
        """SHA-256 over every path and content: the identity of the data, wherever and in whatever they lie."""
        return digest_of_samples(self.samples)

    def read(self, path: str) -> bytes:
        """The bytes of an image file, from any thread. Raises DatasetError or OSError."""
        return self.source.read(path)

    def labels(self) -> Tensor:
        """Class indices [N], int64."""
        return torch.tensor([sample.label for sample in self.samples])

    def counts(self) -> dict[str, int]:
        found = Counter(sample.label for sample in self.samples)
        return {name: found[index] for index, name in enumerate(self.classes)}


def digest_of_samples(samples: Iterable[Sample]) -> str:
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
    """The dataset at `root`: a folder, a file of labels in one, or a zip file of either; no pixels are decoded yet.

    `group_regex` is searched in each file's name; its first group (or the whole match) names what must not be split
    between training and test: the patient, the slide, the source tile. A group that a file of labels states goes
    before it, and byte-identical files share a group as well.
    `classes`, where given, are the labels the dataset must have (those of an adapter to evaluate). `suffixes` are those
    of the files that count (`inputs.suffixes_of`).
    Raises DatasetError where there is nothing to train on or a name does not match the expression.
    """
    try:
        listed = list_folder(root, suffixes=suffixes)
    except OSError as error:
        raise DatasetError(f"{root}: cannot be read ({error.strerror})") from error
    names = _like(listed, tuple(classes)) if classes is not None else listed.classes
    index = {name: number for number, name in enumerate(names)}
    pattern = _compile(group_regex)
    samples = [
        Sample(
            path=file.path,
            label=index[file.label],
            group=_group(pattern, file.path) if file.group is None else file.group,
            digest=hashlib.sha256(_bytes(listed.source, file.path)).hexdigest(),
            split=file.split,
            label_name=None if file.path.startswith(f"{file.label}/") else file.label,
        )
        for file in sorted(listed.files, key=lambda file: index[file.label])  # stable: paths stay in order
    ]
    joined, notes = _join_duplicates(samples, names)
    if listed.ignored:
        notes.append(
            f"{len(listed.ignored)} file(s) are no images by their suffix or place and were passed over: "
            f"{_some(listed.ignored)}"
        )
    return ImageFolder(root, names, joined, listed.source, tuple(notes))


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image file with what is stated of it."""

    path: str
    label: str
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A dataset before its files are read: files class by class, in the order of their paths.

    `ignored` are files that are no images or belong to no class, `hidden` those that a system leaves behind.
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
    """What `read_folder` will read; `limits` apply to a zip file, `title` is how messages call it.

    Raises DatasetError, OSError.
    """
    if root.is_dir():
        folder = FolderSource(root)
        found = [name for name in LABEL_FILES if folder.has(name)]
        return _by_labels(folder, _one_of(found, folder), suffixes) if found else _by_folders(folder, suffixes)
    if not root.exists():
        raise DatasetError(f"{root}: found no folder, expected one with a folder of images for each class")
    if root.suffix.lower() in (".csv", ".jsonl"):
        return _by_labels(FolderSource(root.parent), root.name, suffixes)
    source = ArchiveSource.open(open_archive(root, limits or _OWN_DISK), title or str(root), LABEL_FILES)
    found = [name for name in LABEL_FILES if source.has(name)]
    return _by_labels(source, _one_of(found, source), suffixes) if found else _by_folders(source, suffixes)


def read_pixels(folder: ImageFolder, samples: Sequence[Sample], rule: InputRule) -> Tensor:
    """Inputs as the backbone will see them, before normalisation: uint8 [N, 3, height, width] of images.

    Of volumes float32 [N, 1, depth, height, width] in [0, 1], with three channels where any is of colour.
    Raises DatasetError that lists the files that cannot be read.
    """
    grey, dtype = (1, torch.float32) if isinstance(rule, VolumePreprocessing) else (3, torch.uint8)
    pixels = torch.empty(len(samples), grey, *rule.input_shape[1:], dtype=dtype)
    broken: list[str] = []
    for index, sample in enumerate(samples):
        try:
            found = pixels_of(folder.read(sample.path), rule)
        except (ImageError, DatasetError, OSError) as error:
            broken.append(f"{sample.path} ({error})")
            continue
        if len(found) > pixels.shape[1]:
            pixels = pixels.expand(-1, len(found), *pixels.shape[2:]).contiguous()
        pixels[index] = found
    if broken:
        raise DatasetError(
            f"{folder.root}: {len(broken)} of {len(samples)} images cannot be read:\n  "
            + "\n  ".join(broken[:LISTED])
            + ("\n  ..." if len(broken) > LISTED else "")
            + "\nCure: repair or remove these files"
        )
    return pixels


def _by_folders(source: Source, suffixes: tuple[str, ...]) -> Listed:
    """Classes by the folders right below the root."""
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
            "Fix: add a folder with images of what it is to be told from",
            code="dataset_too_small",
        )
    inputs = [path for path in listing.files if "/" in path and is_input_name(path, suffixes)]
    files = [Labelled(path, path.split("/", 1)[0]) for path in inputs]
    filled = {file.label for file in files}
    if empty := [name for name in listing.folders if name not in filled]:
        raise DatasetError(
            f"{title}: found no images in {_some(empty)}, expected {', '.join(sorted(suffixes))} files. "
            "Fix: add images or remove the folder",
            code="dataset_too_small",
        )
    for name in listing.folders:
        if why := check_label(name):
            raise DatasetError(f"{title}: {why} (a class folder's name)")
    ignored = tuple(sorted(set(listing.files) - set(inputs), key=order_of))
    return Listed(source, listing.folders, tuple(files), ignored, listing.hidden)


def _by_labels(source: Source, name: str, suffixes: tuple[str, ...]) -> Listed:
    """Classes by the rows of a file of labels beside the images."""
    title = source.title
    rows = read_rows(name, _bytes(source, name))
    for row in rows:
        if not is_input_name(row.path, suffixes):
            raise DatasetError(
                f"{name}, row {row.number}: found {row.path[:80]!r}, expected a name that ends in "
                f"{', '.join(sorted(suffixes))}"
            )
        if not source.has(row.path):
            raise DatasetError(f"{name}, row {row.number}: found no file {row.path[:80]!r} beside {name}")
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise DatasetError(
            f"{title}: found one label ({classes[0]}) in {name}, expected at least two. "
            "Fix: add images of what it is to be told from",
            code="dataset_too_small",
        )
    index = {label: number for number, label in enumerate(classes)}
    rows = sorted(rows, key=lambda row: (index[row.label], order_of(row.path)))
    files = tuple(Labelled(row.path, row.label, row.group, row.split) for row in rows)
    if isinstance(source, FolderSource):
        return Listed(source, classes, files, (), ())  # a selection from whatever else lies in the folder
    listing, stated = source.list(), {row.path for row in rows}
    left = [path for path in listing.files if path not in stated and path != name]
    if unlabelled := [path for path in left if is_input_name(path, suffixes)]:
        raise DatasetError(
            f"{name}, row {max(row.number for row in rows)} is the last: found no row for {len(unlabelled)} image(s), "
            f"such as {unlabelled[0][:80]!r}, expected one for each. Fix: add the rows or leave the images out"
        )
    return Listed(source, classes, files, tuple(left), listing.hidden)


def _one_of(found: Sequence[str], source: Source) -> str:
    if len(found) > 1:
        raise DatasetError(f"{source.title}: found {' and '.join(found)}, expected one file of labels")
    return found[0]


def _bytes(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except OSError as error:
        raise DatasetError(f"{source.title}: {path[:80]!r} cannot be read ({error.strerror})") from error


def _like(listed: Listed, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The adapter's labels as classes: the dataset may lack one, but may not hold a further one."""
    if unknown := sorted(set(listed.classes) - set(classes)):
        raise DatasetError(
            f"{listed.source.title}: found the class folder(s) {_some(unknown)}, expected the adapter's labels: "
            f"{', '.join(classes)}. Fix: rename the folders after the labels"
        )
    return classes


def _compile(expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        return re.compile(expression)
    except re.error as error:
        raise DatasetError(f"--group-regex {expression!r} is no regular expression: {error}") from error


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
    return tuple(replace(sample, group=root_of(sample.group)) for sample in samples), notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
