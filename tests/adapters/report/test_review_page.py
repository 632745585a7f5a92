"""The page of a review escapes names and goes without an image that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.report.review_page import write_review_page

REVIEW: dict[str, Any] = {
    "images": 9,
    "checked": 9,
    "accuracy": 0.875,
    "flagged": 1,
    "labels": [
        {"path": "<b>cat</b>/1.png", "label": "<i>cat", "suggested": "dog", "quality": 0.124, "flagged": True},
        {"path": "cat/gone.png", "label": "cat", "suggested": "dog", "quality": 0.4, "flagged": False},
    ],
    "outlier_count": 0,
    "outliers": [],
    "look_alike_count": 1,
    "look_alikes": [{"paths": ["cat/1.png", "dog/2.png"], "labels": ["cat", "dog"], "parts": ["train", None]}],
    "notes": ["1 label(s) are likely wrong"],
}


def read(path: str) -> bytes:
    if "gone" in path:
        raise FileNotFoundError(path)
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_names_are_text_and_images_are_inside_the_page(tmp_path: Path) -> None:
    write_review_page(tmp_path / "review.html", "pets & more", REVIEW, read)

    page = (tmp_path / "review.html").read_text()
    assert "&lt;b&gt;cat&lt;/b&gt;/1.png" in page
    assert "<i>cat" not in page
    assert "pets &amp; more" in page
    assert page.count("data:image/jpeg") == 3
    assert "cat/gone.png" in page
    assert "87.5 %" in page
    assert "0.12" in page


def test_an_image_is_decoded_once_and_one_that_vanished_from_its_zip_is_listed(tmp_path: Path) -> None:
    asked: list[str] = []

    def read_or_refuse(path: str) -> bytes:
        asked.append(path)
        if "gone" in path:
            raise DatasetError(f"found no {path}, expected it in the zip. Fix: send the zip again")
        return read(path)

    write_review_page(tmp_path / "review.html", "pets", REVIEW, read_or_refuse)

    assert sorted(asked) == ["<b>cat</b>/1.png", "cat/1.png", "cat/gone.png", "dog/2.png"]
    assert "cat/gone.png" in (tmp_path / "review.html").read_text()
