"""Changes of a listed dataset: other labels for some images, and images that are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lensmount_adapters.data.labels import check_label, check_labels
from lensmount_adapters.data.listing import Listed
from lensmount_adapters.errors import DatasetError

_NAMED = 5  # paths in one message


@dataclass(frozen=True, slots=True)
class Edits:
    """`Edits(relabel={"cat/1.png": "dog"}, exclude=("cat/2.png",)).applied_to(listed)`. Paths are those of the dataset.

    A label may be new: it becomes a class, if `write_dataset_archive` finds enough images of it.
    """

    relabel: Mapping[str, str] = field(default_factory=dict)
    exclude: Sequence[str] = ()

    def applied_to(self, listed: Listed) -> Listed:
        """Return the dataset with the changes. Raises DatasetError for a path that it lacks or a label that is none."""
        excluded = set(self.exclude)
        if both := sorted(excluded & set(self.relabel)):
            raise DatasetError(
                f"found {_names(both)} both relabelled and excluded, expected one of them. Fix: keep one of them"
            )
        known = {file.path for file in listed.files}
        if unknown := sorted((excluded | set(self.relabel)) - known):
            raise DatasetError(
                f"found {len(unknown)} path(s) that the dataset lacks ({_names(unknown)}), expected paths such as "
                f"{_names(sorted(known)[:1])}. Fix: take them from the review or the archive's manifest.jsonl"
            )
        for label in dict.fromkeys(self.relabel.values()):
            if reason := check_label(label):
                raise DatasetError(f"{reason}, expected the name of a class. Fix: choose another label")
        files = [
            replace(file, label=self.relabel.get(file.path, file.label))
            for file in listed.files
            if file.path not in excluded
        ]
        classes = tuple(sorted({file.label for file in files}))
        if alike := check_labels(classes):
            raise DatasetError(f"found the labels {alike[1][:80]!r} and {alike[2][:80]!r}: {alike[0]}")
        if len(classes) < 2:
            raise DatasetError(
                f"found {len(classes)} class(es) after the changes, expected two. Fix: keep images of two classes",
                code="dataset_too_small",
            )
        files.sort(key=lambda file: classes.index(file.label))  # stable, so paths stay in order
        return replace(listed, classes=classes, files=tuple(files), plain=False)


def _names(paths: Sequence[str]) -> str:
    return ", ".join(repr(path[:80]) for path in paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
