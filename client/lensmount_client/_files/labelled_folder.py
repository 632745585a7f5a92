"""A folder of labelled images, to compare answers with: the images that a training would read, and their labels."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from lensmount_client._errors import InvalidInput
from lensmount_client._files.layout import Labelled
from lensmount_client._files.listing import FolderSource, Source, list_source
from lensmount_client._files.paths import IMAGE_SUFFIXES, refuse_url


@dataclass(frozen=True)
class LabelledFolder:
    """`for image in folder.images: folder.read(image), image.label`."""

    title: str
    source: Source
    images: tuple[Labelled, ...]

    @property
    def labels(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({image.label for image in self.images})

    def read(self, image: Labelled) -> bytes:
        """The file's bytes. Raises InvalidInput."""
        try:
            content = self.source.read(image.path)
        except OSError as error:
            raise InvalidInput(f"{self.title}: {image.path}: cannot be read ({error.strerror or error})") from error
        if not content:
            raise InvalidInput(f"{self.title}: {image.path}: the file is empty")
        return content


def labelled_folder(path: str | Path, split: str | None = None, class_depth: int | None = None) -> LabelledFolder:
    """List a folder with one folder per class, or with a file of labels, or such a file. Raises InvalidInput.

    With `split` only the images of that part, such as "test".
    """
    refuse_url(path, "a folder on this machine")
    path = Path(path)
    try:
        if path.is_dir():
            listed = list_source(FolderSource(path), IMAGE_SUFFIXES, class_depth)
        elif path.suffix.lower() in (".csv", ".tsv", ".jsonl") and path.is_file():
            listed = list_source(FolderSource(path.parent), IMAGE_SUFFIXES, class_depth, path.name)
        elif path.is_file() and zipfile.is_zipfile(path):
            raise InvalidInput(f"{path}: found a zip, expected a folder of images. Fix: unzip it first")
        else:
            raise InvalidInput(f"{path}: found no such folder, expected one folder of images per class")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InvalidInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    images = tuple(file for file in listed.files if split is None or file.split == split)
    if not images:
        parts = sorted({file.split for file in listed.files if file.split is not None})
        raise InvalidInput(
            f"{path}: found no images of the part {split!r}, expected some. "
            f"Fix: {'one of ' + ', '.join(parts) if parts else 'leave split out, because the folder states no parts'}"
        )
    return LabelledFolder(str(path), listed.source, images)
