"""Label each image that appears in a folder: `python examples/watch_folder.py scans/ leaves`. Ctrl-C ends it."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lensmount_client import Client, LensmountError

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def new_images(folder: Path, sizes: dict[Path, int], done: set[Path]) -> Iterator[Path]:
    """The images that were not there before, once their size has stayed the same for one look: they are complete."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGES and path not in done:
            size = path.stat().st_size
            if size and sizes.get(path) == size:
                done.add(path)
                yield path
            sizes[path] = size


def watch(folder: Path, adapter: str, client: Client, every_s: float = 2.0, looks: int | None = None) -> None:
    """Append one row for each image to labels.csv in the folder. `looks` ends it after this many; None never does."""
    sizes: dict[Path, int] = {}
    table = folder / "labels.csv"
    before = table.read_text().splitlines() if table.exists() else []
    done = {folder / row[0] for row in csv.reader(before)}
    while looks is None or looks > 0:
        for path in new_images(folder, sizes, done):
            try:
                answer = client.predict(path, adapter)
                row = [path.name, answer.top.label, f"{answer.top.score:.4f}", answer.adapter.version, str(answer)]
            except LensmountError as error:
                row = [path.name, "", "", "", f"{error.code}: {error.detail} (request {error.request_id})"]
            with table.open("a", newline="") as file:
                csv.writer(file).writerow(row)
        time.sleep(every_s)
        looks = None if looks is None else looks - 1


if __name__ == "__main__":
    with Client() as client:
        watch(Path(sys.argv[1]), sys.argv[2], client)
