"""Name the exports of annotation tools that are not read, so that a refusal says what the file is and what to write.

The client has a copy of this module (`make options` writes it), so that it and the server say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lensmount_adapters.data.exports import load_json

MAX_FILES = 5  # that are looked into
_SUFFIXES = (".json", ".manifest", ".ndjson")


def other_export(files: Sequence[str], read: Callable[[str], bytes]) -> tuple[str, str] | None:
    """What the first export of another tool is, in words, and its path. None if there is none."""
    for path in [path for path in files if path.lower().endswith(_SUFFIXES)][:MAX_FILES]:
        data = read(path)
        document = load_json(data)
        if document is None:  # perhaps one object in each line
            document = load_json(data.split(b"\n", 1)[0])
        for kind, is_kind in _KINDS:
            if is_kind(document):
                return kind, path
    return None


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda document: isinstance(document, dict) and set(keys) <= set(document)


def _each_has(*keys: str) -> Callable[[Any], bool]:
    return lambda document: isinstance(document, list) and bool(document) and all(map(_has(*keys), document[:3]))


def _values_have(*keys: str) -> Callable[[Any], bool]:
    return lambda document: isinstance(document, dict) and bool(document) and _each_has(*keys)([*document.values()])


def _names_labels(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and len(document) > 1
        and all("." in name and isinstance(label, str | int) for name, label in document.items())
    )


_KINDS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("a project of VGG's annotator VIA", _has("_via_img_metadata")),
    ("an export of VGG's annotator VIA", _values_have("filename", "regions")),
    ("a file of LabelMe", _has("shapes", "imagePath")),
    ("a file of Supervisely", _has("objects", "size", "tags")),
    ("a file of V7 Darwin", _has("item", "annotations")),
    ("labels of FiftyOne", _has("classes", "labels")),
    ("an export of Azure Custom Vision", _each_has("tags", "id")),
    ("annotations of Create ML", _each_has("image", "annotations")),
    ("a manifest of Amazon SageMaker Ground Truth", _has("source-ref")),
    ("an export of Labelbox", _has("data_row")),
    ("a JSON object of names and labels", _names_labels),
    ("a JSON list of rows", _each_has()),
)
