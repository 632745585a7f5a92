"""Where the images of a batch run come from: a folder, a pattern or a list of files. Others may follow the Protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lensmount_client._files.paths import find_images, read_file


@runtime_checkable
class BatchSource(Protocol):
    """Images by name, in an order that is the same in each run."""

    def names(self) -> Iterator[str]:
        """Each name once. Raises InvalidInput if there are none."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of an image file. Raises InvalidInput if this image cannot be read."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """`LocalFiles(["cells/", "more/*.png"])`: the images of folders and patterns, and single files."""

    places: Sequence[str | Path]

    def names(self) -> Iterator[str]:
        if len(self.places) == 1:
            return find_images(self.places[0])
        return iter(dict.fromkeys(path for place in self.places for path in find_images(place)))

    def read(self, name: str) -> bytes:
        return read_file(name)
