"""Each program of examples/ does what its README says, against the tiny server."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import sys
import types
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lensmount_client import Client

FOLDER = Path(__file__).parents[2] / "examples"
LABELS = ("parasitized", "uninfected")
QUPATH = {  # as QuPath 0.5 writes an annotation with a class, and an older version one without
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "0b9a2c2e-5f0e-4c1b-8f3a-2f1f0a4f6d11",
            "geometry": {"type": "Polygon", "coordinates": [[[4, 6], [20, 6], [20.5, 18], [4, 18], [4, 6]]]},
            "properties": {
                "objectType": "annotation",
                "name": "first",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "measurements": {"Area": 192.5},
                "isLocked": True,
            },
        },
        {
            "type": "Feature",
            "id": "PathAnnotationObject",
            "geometry": {"type": "MultiPolygon", "coordinates": [[[[40, 0], [60, 0], [60, 30], [40, 0]]]]},
            "properties": {"isLocked": False, "measurements": [{"name": "Area", "value": 300}]},
        },
        {"type": "Feature", "geometry": None, "properties": {}},
    ],
}


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_in_the_readme_with_its_command() -> None:
    text = (FOLDER / "README.md").read_text()
    names = {path.name for path in FOLDER.glob("*.py")}
    assert set(re.findall(r"\*\*\[([\w.]+)\]", text)) == names
    assert {name for name in names if f"`python examples/{name} " in text} == names


def test_the_page_of_gradio_has_20_lines_and_labels_an_image(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", types.ModuleType("gradio"))
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    monkeypatch.setattr(sys, "argv", ["gradio_app.py", "malaria"])
    (tmp_path / "a.png").write_bytes(b"cell")

    page = example("gradio_app")
    with page.client:
        scores, words = page.label(str(tmp_path / "a.png"))

    assert scores == {"cell": 0.75, "other": 0.25}
    assert words == "cell 75.0% (malaria@1), sure"
    assert len((FOLDER / "gradio_app.py").read_text().splitlines()) <= 20


def test_the_watcher_labels_an_image_once_and_only_when_it_is_complete(server: Any, tmp_path: Path) -> None:
    watcher = example("watch_folder")
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "notes.txt").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    with Client(server.url) as client:
        watcher.watch(tmp_path, "malaria", client, every_s=0, looks=1)
        (tmp_path / "a.png").write_bytes(b"one and more")  # it was still being written
        watcher.watch(tmp_path, "malaria", client, every_s=0, looks=3)
        (tmp_path / "b.png").write_bytes(b"bad")
        watcher.watch(tmp_path, "malaria", client, every_s=0, looks=3)

    rows = list(csv.reader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [row[:2] for row in rows] == [["a.png", "one and more"], ["b.png", ""]]
    assert rows[1][4].startswith("image_truncated: the image ends after 3 bytes (request ")


def test_the_batch_lists_what_a_person_should_look_at(server: Any, tmp_path: Path) -> None:
    for name, content in {"a.png": b"fine", "b.png": b"dim one", "c.png": b"bad", "d.png": b"odd"}.items():
        (tmp_path / name).write_bytes(content)
    cron = example("cron_batch")
    with Client(server.url) as client:
        for _ in range(2):  # the same file, written again
            assert cron.batch(tmp_path, "malaria", tmp_path / "results", client) == 1

    def files(name: str) -> list[str]:
        return [
            Path(row["file"]).name for row in csv.DictReader((tmp_path / "results" / name).read_text().splitlines())
        ]

    assert files(f"{date.today()}.csv") == ["a.png", "b.png", "c.png", "d.png"]
    assert files(f"{date.today()}-look-at.csv") == ["b.png", "c.png", "d.png"]


def test_regions_of_qupath_come_back_with_class_colour_and_scores(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slide = Image.new("RGB", (60, 30), (200, 0, 0))
    slide.paste((0, 0, 200), (30, 0, 60, 30))
    slide.save(tmp_path / "slide.png")
    (tmp_path / "regions.geojson").write_text(json.dumps(QUPATH))
    sizes: list[tuple[int, int]] = []

    def predict(query: dict[str, str], image: bytes) -> Any:
        tile = Image.open(io.BytesIO(image))
        sizes.append(tile.size)
        red, _, blue = tile.resize((1, 1)).tobytes()
        found = server.prediction("malaria", LABELS[red < blue])
        found["predictions"] = [
            {"label": LABELS[red < blue], "score": 0.9},
            {"label": LABELS[red > blue], "score": 0.1},
        ]
        return 200, found, {}

    monkeypatch.setattr(server, "predict", predict)
    monkeypatch.setattr(server, "info", lambda name: TinyInfo | server.identity(name, 1))
    with Client(server.url) as client:
        count = example("qupath").classify(
            tmp_path / "slide.png", tmp_path / "regions.geojson", "malaria", tmp_path / "out.geojson", client
        )

    written = json.loads((tmp_path / "out.geojson").read_text())
    assert (count, written["type"]) == (2, "FeatureCollection")
    assert sizes == [(17, 12), (20, 30)]  # whole pixels around 4..20.5 x 6..18, and around the triangle
    first, second = (feature["properties"] for feature in written["features"])
    assert [feature["geometry"] for feature in written["features"]] == [f["geometry"] for f in QUPATH["features"][:2]]  # type: ignore[index]  # JSON
    assert [feature["id"] for feature in written["features"]] == [f["id"] for f in QUPATH["features"][:2]]  # type: ignore[index]
    assert [part["classification"]["name"] for part in (first, second)] == list(LABELS)
    assert all(len(part["classification"]["color"]) == 3 for part in (first, second))
    assert first["measurements"] == {"Area": 192.5, "Lensmount: parasitized": 0.9, "Lensmount: uninfected": 0.1}
    assert (first["name"], first["isLocked"], first["objectType"]) == ("first", True, "annotation")
    assert second["objectType"] == "annotation"
    assert all(isinstance(value, float) for value in second["measurements"].values())


def test_a_list_of_features_and_one_feature_are_read_too() -> None:
    qupath = example("qupath")
    (first, _, _) = QUPATH["features"]
    assert len(qupath.features_of(QUPATH)) == len(qupath.features_of(QUPATH["features"])) == 2
    assert qupath.features_of(first) == [first]


TinyInfo: dict[str, Any] = {
    **{"size_bytes": 1, "created_at": "2026-01-02T03:04:05Z", "method": "lora", "labels": list(LABELS)},
    **{"backbone": {"name": "tiny", "fingerprint": "sha256:0"}, "aliases": {}, "versions": [1], "status": "ready"},
}
