"""The page's datasets in a real Chromium: what to check, and a review whose buttons make a new version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeParts, MakePng, Until, Zip


def test_datasets_are_listed_with_what_to_check(
    page: Page, make_parts: MakeParts, make_png: MakePng, zipped: Zip, listening: Listening
) -> None:
    long = f"<i>{'infected' * 12}</i>".replace("/", "-")
    files = {f"{label}/{label[:9]} {n}.png": make_png(n) for label in ("healthy", long) for n in range(2)}
    with make_parts() as parts, listening(parts.app) as url:
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(url)
        page.get_by_text("Backbone test_resnet").wait_for()
        assert not page.get_by_role("heading", name="Datasets").is_visible()

        pushed = httpx.put(f"{url}/datasets/cells", content=zipped(files)).raise_for_status().json()
        page.get_by_role("button", name="Refresh").click()
        row = page.locator("#datasets > li")
        row.get_by_text("cells").wait_for()
        row.get_by_text("What to check").click()

        warnings = [warning["message"] for warning in pushed["report"]["warnings"]]
        assert len(warnings) >= 2  # the same images are in both classes, and they are too few to train
        assert row.locator(".badge").inner_text() == f"{len(warnings)} warnings"
        assert row.locator("details li").all_text_contents()[: len(warnings)] == warnings
        assert f"{long} 2" in row.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_review_shows_doubtful_images_and_its_buttons_make_a_new_version(
    page: Page,
    make_parts: MakeParts,
    make_png: MakePng,
    zipped: Zip,
    tmp_path: Path,
    listening: Listening,
    until: Until,
) -> None:
    files = {
        f"{label}/{label} {n}.png": make_png(n + 9 * (label == "<b>")) for label in ("<b>", "ok") for n in range(4)
    }
    doubts = [
        {"path": f"ok/ok {n}.png", "label": "ok", "suggested": "<b>", "quality": 0.1, "flagged": True} for n in (0, 1)
    ]
    counts = {"images": 8, "checked": 8, "accuracy": 0.9, "flagged": 2, "outlier_count": 0, "look_alike_count": 0}
    review = {**counts, "labels": doubts, "outliers": [], "look_alikes": [], "shortcuts": [], "notes": ["<i>look</i>"]}
    with make_parts() as parts, listening(parts.app) as url:
        pushed = httpx.put(f"{url}/datasets/cells", content=zipped(files)).raise_for_status().json()
        fingerprint = parts.engine.backbone.fingerprint.removeprefix("sha256:")
        (tmp_path / "reviews").mkdir()
        kept = tmp_path / "reviews" / f"{pushed['digest'].removeprefix('sha256:')}-{fingerprint[:16]}.json"
        kept.write_text(json.dumps(review))
        page.goto(url)
        page.get_by_text("Review the labels").click()

        page.get_by_text("<i>look</i>").wait_for()
        cards = page.locator(".doubts > li")
        assert cards.count() == 2
        shown = "[...document.querySelectorAll('.doubts img')].every((image) => image.naturalWidth)"
        until(lambda: page.evaluate(shown))  # wait_for_function needs eval, which the page's policy forbids
        assert page.get_by_role("button", name="Save the changes").is_disabled()
        cards.nth(0).get_by_role("button", name="Relabel as <b>").click()
        cards.nth(1).get_by_role("button", name="Relabel as <b>").click()
        cards.nth(1).get_by_role("button", name="Exclude").click()
        page.get_by_role("button", name="Save 2 changes as a new version").click()
        page.locator("#datasets").get_by_text("version 2").wait_for()

        assert httpx.get(f"{url}/datasets/cells").json()["classes"] == {"<b>": 5, "ok": 2}
        assert httpx.get(f"{url}/datasets/cells?version=1").json() == pushed
