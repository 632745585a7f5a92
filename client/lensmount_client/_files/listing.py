"""List a dataset: which files are data, their classes and parts, and what is left out, in one way for all commands.

A copy of adapters/lensmount_adapters/data/listing.py that `make options` writes. Do not edit it here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lensmount_client._files.exports import Named, read_exports
from lensmount_client._files.finder import Finder
from lensmount_client._files.labels import LABEL_FILES, Row, check_label, check_labels, looks_like_part, read_rows
from lensmount_client._files.layout import Labelled, by_folders, wrapping
from lensmount_client._files.look_alikes import look_alikes
from lensmount_client._files.other_exports import other_export
from lensmount_client._files.refusal import Refused, refusal
from lensmount_client._files.walk import (
    bytes_of,
    check_names,
    check_portable,
    composed,
    is_input_name,
    listed_names,
    order_of,
    walk,
)

KINDS = ("file", "folder", "hidden", "loop", "broken", "special")  # of `walk`, in the order of Listing's fields
LINKS = "links to a folder above them or to nothing"
SPECIAL = "pipes, sockets and devices"


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths below the root, POSIX style, sorted folder by folder. `folders` are all folders below the root.

    `hidden` are files and folders (with a slash at the end) that are passed over: see `walk.is_passed_over`. `links`
    are links that lead to a folder above them. `broken` are links that lead to nothing. `special` are pipes, sockets
    and devices, which are never opened.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    links: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    special: tuple[str, ...] = ()


class Source(Protocol):
    """Lists and reads the files of a dataset."""

    @property
    def title(self) -> str:
        """The source's name in messages."""

    def list(self) -> Listing: ...

    def has(self, path: str) -> bool: ...

    def size(self, path: str) -> int:
        """The size of a file in bytes."""

    def read(self, path: str) -> bytes:
        """Raises a refusal or OSError if the file cannot be read."""

    def below(self, prefix: str) -> Source:
        """The same source with a folder (and its slash) as its root."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder on disk. `prefix` is a folder in it, with a slash at its end, below which paths begin."""

    root: Path
    prefix: str = ""

    @property
    def title(self) -> str:
        return str(self.root)

    def list(self) -> Listing:
        kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for found in walk(os.fspath(self.path_of(""))):
            kinds[found.kind].append(found.path)
        return Listing(*(tuple(sorted(kinds[kind], key=order_of)) for kind in KINDS))

    def has(self, path: str) -> bool:
        return self.path_of(path).is_file()

    def size(self, path: str) -> int:
        return self.path_of(path).stat().st_size

    def read(self, path: str) -> bytes:
        return self.path_of(path).read_bytes()

    def below(self, prefix: str) -> FolderSource:
        return FolderSource(self.root, self.prefix + prefix)

    def path_of(self, path: str) -> Path:
        """Where a file of the listing is on disk, where its name may have another Unicode form."""
        path = self.prefix + path
        whole = self.root / path
        if path.isascii() or whole.exists():
            return whole
        found = self.root
        for part in path.split("/"):
            try:
                found = next((p for p in found.iterdir() if composed(p.name) == part), found / part)
            except OSError:
                return whole
        return found


@dataclass(frozen=True, slots=True)
class Listed:
    """A dataset before its files are read. The files are ordered by class, then by path.

    `ignored` are files that are not images or belong to no class. `hidden` are files that systems leave. `left_out`
    counts both by kind. `notes` are sentences for the user. `plain`: each label is the folder at the top of its path.
    """

    source: Source
    classes: tuple[str, ...]
    files: tuple[Labelled, ...]
    ignored: tuple[str, ...]
    hidden: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plain: bool = False


def list_source(
    source: Source, suffixes: tuple[str, ...], class_depth: int | None = None, label_file: str | None = None
) -> Listed:
    """List the data of a folder or a zip. `label_file` names the file of labels at the root; by default it is found.

    Raises a refusal that says what was found, what is expected and how to mend it.
    """
    listing = source.list()
    inputs = [path for path in listing.files if is_input_name(path, suffixes) and bytes_of(path)]
    others = [path for path in listing.files if not is_input_name(path, suffixes)]
    stops = [path for path in others if path.rpartition("/")[2] in LABEL_FILES]
    prefix = "" if label_file else wrapping(inputs, stops, class_depth)
    root = _Root(source, listing, inputs, others).below(prefix)
    label_files = [label_file] if label_file else [name for name in LABEL_FILES if name in root.others]
    if len(label_files) > 1:
        raise refusal(
            f"{source.title}: found {' and '.join(label_files)}, expected one file of labels. Fix: keep one of them"
        )
    if label_files and class_depth is not None:
        raise refusal(
            f"{source.title}: found --class-depth {class_depth} and {label_files[0]}, expected one of them. "
            "Fix: leave one out"
        )
    if label_files:
        return _by_labels(root, label_files[0])
    if broken := [path for path in listing.broken if is_input_name(path, suffixes) or "." not in path]:
        raise refusal(
            f"{source.title}: found a broken link ({listed_names(broken)}), expected it to lead to a file or folder. "
            "Fix: restore what it leads to, or remove the link"
        )
    try:
        layout = by_folders(source.title, root.inputs, root.folders, class_depth)
    except Refused as error:
        whole = _Root(source, listing, inputs, others)
        if export := read_exports(source.title, others, source.read):
            return _by_export(whole, *export)
        if more := _what_else_there_is(whole, root):
            raise refusal(f"{error}. {more}", error.code) from None
        raise
    return root.listed(layout.files, layout.notes, layout.plain)


def _what_else_there_is(whole: _Root, root: _Root) -> str:
    """A sentence about the files that may have the labels, or that may be the images."""
    if not whole.inputs and whole.others:
        kinds = Counter(_suffix(path) or "without a suffix" for path in whole.others)
        return f"There are only files whose names are not those of images: {counted(kinds)}. Convert or unpack them"
    if other := other_export(whole.others, whole.source.read):
        return f"{other[1]} is {other[0]}, which is not read: write its labels into a labels.csv"
    tables = [path for path in root.others if path.lower().endswith((".csv", ".tsv", ".jsonl"))]
    if at_root := [path for path in tables if "/" not in path]:
        return f"If {at_root[0]} has the labels, rename it to labels{_suffix(at_root[0])}"
    tables += [path for path in root.others if path.lower().endswith((".xlsx", ".xls", ".ods", ".parquet", ".txt"))]
    if tables:
        return f"If {tables[0]} has labels, write them into a labels.csv next to the images' folders"
    return ""


@dataclass(frozen=True, slots=True)
class _Root:
    """The files below the root of the data (`prefix`), sorted, and what lies next to it."""

    source: Source
    listing: Listing
    inputs: list[str]
    others: list[str]
    prefix: str = ""
    around: frozenset[str] = frozenset()  # images that are not below the prefix

    @property
    def folders(self) -> list[str]:
        return _below(self.listing.folders, self.prefix)

    def below(self, prefix: str) -> _Root:
        """The same files as seen from a folder that has all the images."""
        if not prefix:
            return self
        inputs, others = _below(self.inputs, prefix), _below(self.others, prefix)
        around = frozenset(path for path in self.inputs if not path.startswith(prefix))
        return _Root(self.source.below(prefix), self.listing, inputs, others, prefix, around)

    def listed(
        self, files: Iterable[Labelled], notes: Iterable[str], plain: bool, label_file: str = "", unused_words: str = ""
    ) -> Listed:
        """The listing of these files, with what is left out counted by kind."""
        index = {label: number for number, label in enumerate(sorted({file.label for file in files}))}
        ordered = tuple(sorted(files, key=lambda file: (index[file.label], order_of(file.path))))
        self._check_names(index, [file.path for file in ordered])
        stated = {file.path for file in ordered}
        unused = [path for path in self.inputs if path not in stated]
        around = [path for path in self.listing.files if not path.startswith(self.prefix)]
        unused += sorted(self.around)
        exact = [path for path in (*self.others, *around) if path != label_file and path not in self.around]
        hidden = [path.removeprefix(self.prefix) for path in self.listing.hidden]
        links = [path.removeprefix(self.prefix) for path in (*self.listing.links, *self.listing.broken)]
        special = [path.removeprefix(self.prefix) for path in self.listing.special]
        kinds = Counter(_suffix(path) or "without a suffix" for path in exact)
        kinds[unused_words or (f"not in {label_file}" if label_file else "outside class folders")] = len(unused)
        kinds["hidden folders"] = sum(path.endswith("/") for path in hidden)
        kinds["hidden"] = len(hidden) - kinds["hidden folders"]
        kinds[LINKS] = len(links)
        kinds[SPECIAL] = len(special)
        if self.prefix:
            where = "next to which images are left out" if self.around else "which has all the images"
            notes = [f"The data are in the folder {self.prefix[:-1]}, {where}", *notes]
        return Listed(
            self.source,
            tuple(index),
            ordered,
            tuple(sorted((*unused, *exact, *links, *special), key=order_of)),
            tuple(hidden),
            {kind: count for kind, count in sorted(kinds.items()) if count},
            (*notes, *look_alikes(index)),
            plain,
        )

    def _check_names(self, labels: Iterable[str], paths: Sequence[str]) -> None:
        """Refuse the names that a stored dataset, which has a manifest.jsonl, could not have."""
        check_names(paths)
        check_names(labels)
        for path in paths:
            check_portable(path)
            if path.casefold().startswith(f"{LABEL_FILES[0]}/"):
                raise refusal(
                    f"{path}: found a folder called {LABEL_FILES[0]}, which is the name of the list in every stored "
                    "dataset. Fix: rename the folder"
                )
        for label in labels:
            if why := check_label(label):
                raise refusal(f"{self.source.title}: {why}. Fix: rename it")
        if found := check_labels(labels):
            why, label, other = found
            which = f"found {other[:80]!r} and {label[:80]!r}: " if label != other else ""
            raise refusal(f"{self.source.title}: {which}{why}")


def _by_labels(root: _Root, name: str) -> Listed:
    """Take the classes from the rows of a file of labels next to the images."""
    find = Finder(root.inputs, root.others)
    files: list[Labelled] = []
    seen: dict[str, Row] = {}
    for row in read_rows(name, _bytes(root.source, name)):
        path = find.file_of(row.path, f"{name}, row {row.number}", name)
        if (other := seen.setdefault(path, row)) is not row:
            raise refusal(
                f"{name}, row {row.number}: found {row.path[:80]!r}, which is the file {path[:80]!r} of row "
                f"{other.number}, expected each file once. Fix: remove one of the rows"
            )
        files.append(Labelled(path, row.label, row.group, row.split))
    _require_two(root.source.title, files, name)
    return root.listed(files, (), False, name)


def _by_export(root: _Root, kind: str, named: list[Named]) -> Listed:
    """Take the classes from the export of an annotation tool."""
    find = Finder(root.inputs, root.others)
    files: dict[str, Labelled] = {}
    for image in named:
        near = f"{image.export.rpartition('/')[0]}/{image.name}"
        path = (
            near
            if near in find
            else find.file_of(f"/{image.name.lstrip('/')}", image.export, image.export, image.split)
        )
        split = image.split or next((part for name in path.split("/")[:-1] if (part := looks_like_part(name))), None)
        if files.setdefault(path, Labelled(path, image.label, None, split)).label != image.label:
            raise refusal(
                f"{image.export}: found two labels for {path[:80]!r}, expected one label for each image. "
                "Fix: keep one of them"
            )
    _require_two(root.source.title, list(files.values()), f"{kind} export")
    said = f"The labels are those of {kind} export ({named[0].export})"
    return root.listed(list(files.values()), [said], False, unused_words="not in the export")


def _require_two(title: str, files: list[Labelled], name: str) -> None:
    labels = sorted({file.label for file in files})
    if len(labels) < 2:
        raise refusal(
            f"{title}: found one label ({''.join(labels)}) in {name}, expected at least two. "
            "Fix: add images of another class",
            "dataset_too_small",
        )


def _bytes(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except OSError as error:
        raise refusal(
            f"{source.title}: {path[:80]!r} cannot be read ({error.strerror}). Fix: permit reading the file"
        ) from error


def _below(paths: Iterable[str], prefix: str) -> list[str]:
    return [path[len(prefix) :] for path in paths if path.startswith(prefix) and path != prefix]


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  a path of a listing, which may be in a zip


def counted(left_out: Mapping[str, int]) -> str:
    """{".txt": 2, "hidden": 1} as "2 .txt, 1 hidden"."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item)))
