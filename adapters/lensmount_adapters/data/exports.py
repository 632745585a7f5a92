"""Labels from the exports of annotation tools: COCO, Pascal VOC, CVAT and Label Studio, where an image has one label.

Exports of boxes or outlines are refused by their name. The client has a copy of this module (`make options` writes
it), so that it and the server read the same labels.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.parsers import expat

from lensmount_adapters.data.labels import part_of
from lensmount_adapters.data.refusal import refusal
from lensmount_adapters.data.walk import listed_names

MAX_EXPORT_BYTES = 16 * 2**20
MAX_OBJECTS = 500_000  # of a JSON file; a file of brackets alone would need much memory
MAX_XML_BYTES = 2**18  # of the file of one image
MAX_EXPORT_FILES = 20  # JSON and CVAT files that are looked into
_WAY_OUT = "Fix: export it as classification folders, or write a labels.csv with the columns path and label"
_NO_LABEL = (
    "Fix: give it a label and export again, leave it out of the export, or write a labels.csv with the columns path "
    "and label"
)


@dataclass(frozen=True, slots=True)
class Named:
    """One image as an export names it: the file of the export, the image's name in it, its label and its part."""

    export: str
    name: str
    label: str
    split: str | None


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of an export with all labels that it has."""

    name: str
    labels: frozenset[str]
    split: str | None = None


Read = Callable[[str], bytes]


def read_exports(title: str, files: Sequence[str], read: Read) -> tuple[str, list[Named]] | None:
    """The kind of the export and its images, or None if no file is one. `files` are all files that are not images.

    Raises a refusal if an image has several labels, or none, or the export is one of boxes or outlines.
    """
    documents = [path for path in files if path.lower().endswith((".json", "annotations.xml")) and path.count("/") < 3]
    xml = [path for path in files if path.lower().endswith(".xml") and path not in documents]
    found: list[tuple[str, str, list[_Image]]] = []
    for path in documents[:MAX_EXPORT_FILES]:
        export = _json(read(path)) if path.lower().endswith(".json") else _cvat(read(path))
        if export is not None:
            found.append((path, *export))
    if not found and xml:
        found = _voc(xml, read)
    if not found:
        _refuse_yolo(title, files, read)
        return None
    kind = found[0][1]
    named = [
        Named(path, image.name, _label(title, path, kind, image), image.split or _part_of_file(path))
        for path, kind, images in found
        for image in images
    ]
    return kind, named


def _label(title: str, path: str, kind: str, image: _Image) -> str:
    if len(image.labels) == 1:
        return next(iter(image.labels))
    what = f"the labels {listed_names(sorted(image.labels))}" if image.labels else "no label"
    raise refusal(
        f"{title}: {path}: found {what} for {image.name[:80]} in {kind} export, expected one label for each image. "
        f"{_WAY_OUT if image.labels else _NO_LABEL}"
    )


def _part_of_file(path: str) -> str | None:
    """`train/_annotations.coco.json` and `annotations/instances_train2017.json` state the part."""
    folder, _, name = path.rpartition("/")
    words = [*folder.split("/"), *re.split(r"[\W\d_]+", name.rpartition(".")[0])]
    parts = {part for word in words if (part := part_of(word))}
    return parts.pop() if len(parts) == 1 else None


def load_json(data: bytes) -> Any:
    """What a JSON file states, or None if it is damaged or huge."""
    if len(data) > MAX_EXPORT_BYTES or data.count(b"{") + data.count(b"[") > MAX_OBJECTS:
        return None
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _json(data: bytes) -> tuple[str, list[_Image]] | None:
    document = load_json(data)
    if isinstance(document, dict) and all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        return "a COCO", _coco(document)
    if isinstance(document, list) and document and all(isinstance(task, dict) for task in document):
        images = [image for task in document if (image := _label_studio(task)) is not None]
        return ("a Label Studio", images) if len(images) == len(document) else None
    return None


def _coco(document: dict[str, Any]) -> list[_Image]:
    names = {row["id"]: str(row["name"]) for row in _rows(document["categories"], "id", "name")}
    labels: dict[Any, set[str]] = defaultdict(set)
    for row in _rows(document["annotations"], "image_id", "category_id"):
        labels[row["image_id"]].add(names.get(row["category_id"], str(row["category_id"])))
    return [
        _Image(str(row["file_name"]), frozenset(labels[row["id"]]))
        for row in _rows(document["images"], "id", "file_name")
    ]


def _rows(rows: list[Any], *keys: str) -> Iterable[dict[str, Any]]:
    """The objects that have all keys with plain values."""
    for row in rows:
        if isinstance(row, dict) and all(isinstance(row.get(key), int | str) for key in keys):
            yield row


def _label_studio(task: dict[str, Any]) -> _Image | None:
    """One task of a Label Studio export, in full (JSON) or short (JSON-MIN) form. None if it is none."""
    stated = task.get("data")
    data = stated if isinstance(stated, dict) else task
    name = next((data[key] for key in ("image", "img", "photo") if isinstance(data.get(key), str)), None)
    if name is None:
        return None
    short = task.get("choice")
    if short is not None:
        chosen = short.get("choices", []) if isinstance(short, dict) else [short]
        return _Image(_uploaded(name), frozenset(map(str, chosen)))
    if not isinstance(task.get("annotations"), list):
        return None
    labels: set[str] = set()
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or []:
            value = result.get("value") if isinstance(result, dict) else None
            if isinstance(value, dict) and isinstance(value.get("choices"), list):
                labels.update(map(str, value["choices"]))
    return _Image(_uploaded(name), frozenset(labels))


def _uploaded(address: str) -> str:
    """The path of an image by its address in Label Studio, without the prefix of an upload."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    path = local[0] if local else unquote(parts.path)
    return re.sub(r"(?<=/)[0-9a-f]{8}-(?=[^/]+$)", "", path).removeprefix("/data/upload/")


def _voc(paths: Sequence[str], read: Read) -> list[tuple[str, str, list[_Image]]]:
    """One file of Pascal VOC for each image: `<annotation><filename>...<object><name>`."""
    found = []
    for path in paths:
        data = read(path)
        tags = _elements(data) if len(data) <= MAX_XML_BYTES else []
        if tags and tags[0][0] == "annotation":
            texts = [text for tag, text, _ in tags if tag == "annotation/filename"]
            labels = frozenset(text for tag, text, _ in tags if tag == "annotation/object/name")
            name = texts[0] if texts and texts[0] else path.rpartition("/")[2].rpartition(".")[0]
            found.append((path, "a Pascal VOC", [_Image(name, labels)]))
    return found


def _cvat(data: bytes) -> tuple[str, list[_Image]] | None:
    """`<annotations><image name=...><tag label=...>`. Images with boxes alone count as images without a label."""
    tags = _elements(data)
    if not tags or tags[0][0] != "annotations":
        return None
    images: list[_Image] = []
    for tag, _, attributes in tags:
        if tag == "annotations/image":
            images.append(_Image(attributes.get("name", ""), frozenset(), part_of(attributes.get("subset", ""))))
        elif images and tag.startswith("annotations/image/") and tag.count("/") == 2 and "label" in attributes:
            labels = images[-1].labels | {attributes["label"]}
            images[-1] = replace(images[-1], labels=labels)
    return "a CVAT", images


def _elements(data: bytes) -> list[tuple[str, str, dict[str, str]]]:
    """The elements of an XML file in order, as (path of tags, text, attributes). [] if it is damaged or has a DTD."""
    found: list[tuple[str, list[str], dict[str, str]]] = []
    above: list[int] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(above) > 20 or len(found) > 500_000:
            raise ValueError("an XML file of another kind")
        inside = f"{found[above[-1]][0]}/{tag}" if above else tag
        above.append(len(found))
        found.append((inside, [], attributes))

    def refuse_dtd(*_: object) -> None:
        raise ValueError("a DTD can make a small file endless")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: above.pop()
    parser.CharacterDataHandler = lambda text: found[above[-1]][1].append(text)
    parser.StartDoctypeDeclHandler = refuse_dtd
    if len(data) > MAX_EXPORT_BYTES:
        return []
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        return []
    return [(tag, "".join(texts).strip(), attributes) for tag, texts, attributes in found]


def _refuse_yolo(title: str, files: Sequence[str], read: Read) -> None:
    """Refuse YOLO's text files of boxes: `labels/1.txt` with lines such as `0 0.5 0.5 0.2 0.2`."""
    texts = [path for path in files if path.lower().endswith(".txt") and "labels" in path.lower().split("/")[:-1]]
    for path in texts[:5]:
        lines = read(path)[:4096].decode("utf-8", "replace").splitlines()
        if lines and re.fullmatch(r"\d+(\s+-?[\d.]+){4,}\s*", lines[0]):
            raise refusal(
                f"{title}: found {len(texts)} label files of YOLO with boxes or outlines ({path}), expected one "
                f"label for each image. {_WAY_OUT}"
            )
