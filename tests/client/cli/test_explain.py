"""`lensmount explain` and `lensmount predict --explain` write the image that the answer explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def image(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    Image.new("RGB", (16, 8), (90, 90, 90)).save(tmp_path / "cell.png")
    return tmp_path / "cell.png"


def test_the_image_is_written_and_its_label_printed(lensmount: Any, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"

    code, printed, notes = lensmount("explain", str(image), "-a", "malaria", "-o", str(out))

    assert code == 0
    assert "best" in printed
    assert "75.0%" in printed
    assert "1 x 2 cells" in notes
    drawn = Image.open(out)
    assert drawn.size == (16, 8)
    assert drawn.getpixel((0, 4)) == (90, 90, 90)
    assert drawn.getpixel((15, 4)) != (90, 90, 90)


def test_json_has_the_values_of_the_label_and_method_asked_for(lensmount: Any, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    question = ("--label", "other", "--method", "occlusion")

    code, printed, _ = lensmount("explain", str(image), "-a", "malaria", "-o", str(out), *question, "--json")

    assert code == 0
    assert json.loads(printed) == {
        "file": str(image),
        "explanation": str(out),
        "label": "other",
        "score": 0.75,
        "method": "occlusion",
        "grid": [1, 2],
        "values": [[0.0, 1.5]],
    }


def test_predict_explains_one_image_with_the_option(lensmount: Any, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"

    assert lensmount("predict", str(image), "-a", "malaria", "--explain", str(out))[0] == 0
    assert out.is_file()
    code, _, error = lensmount("predict", str(image), "-a", "malaria,smoking", "--explain", str(out))
    assert code == 2
    assert "--explain: found 1 image and 2 adapters, expected one of each" in error


def test_wrong_usage_is_exit_status_2_and_sends_nothing(
    lensmount: Any, server: Any, image: Path, tmp_path: Path
) -> None:
    code, _, error = lensmount("explain", str(image), "-a", "malaria", "-o", str(tmp_path / "w.png"), "--method", "saw")

    assert code == 2
    assert "found 'saw', expected one of cam, layercam, occlusion" in error
    assert server.images == []


def test_a_file_that_cannot_be_written_is_named(lensmount: Any, image: Path, tmp_path: Path) -> None:
    code, _, error = lensmount("explain", str(image), "-a", "malaria", "-o", str(tmp_path / "none" / "why.png"))

    assert code == 1
    assert "why.png" in error
