"""The page's datasets in a real Chromium: what to check, a review that makes a new version, delete and undo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from tests.service.page.axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeParts, MakePng, Until, Zip

HTTP = httpx.Client(timeout=60)
LOADED = "[...document.querySelectorAll('main figure img, .doubts img')].every((image) => image.naturalWidth)"


def test_a_zip_is_uploaded_checked_trained_on_deleted_and_brought_back(
    page: Page, make_parts: MakeParts, make_png: MakePng, zipped: Zip, listening: Listening, until: Until
) -> None:
    long = f"<i>{'infected' * 12}</i>".replace("/", "-")
    files = {f"{label}/{label[:9]} {n}.png": make_png(n) for label in ("healthy", long) for n in range(2)}
    archive: FilePayload = {"name": "cells.zip", "mimeType": "application/zip", "buffer": zipped(files)}
    with make_parts() as parts, listening(parts.app) as url:
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(f"{url}/#/datasets")
        page.get_by_role("heading", name="There are no datasets yet").wait_for()
        page.get_by_role("button", name="Add a dataset").click()
        page.get_by_label("Drop a zip or a folder here").set_input_files(archive)
        page.get_by_role("button", name="Upload", exact=True).click()
        page.get_by_text("cells version 1 is stored.").wait_for()

        warnings = [each["message"] for each in HTTP.get(f"{url}/datasets/cells").json()["report"]["warnings"]]
        assert len(warnings) >= 2  # the same images are in both classes, and they are too few to train
        row = page.locator("#datasets > li")
        row.get_by_text("What to check").click()
        assert row.locator(".badge").inner_text() == f"{len(warnings)} warnings"
        assert row.locator("details li").all_text_contents()[: len(warnings)] == warnings
        assert f"{long} 2" in row.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []

        row.get_by_role("link", name="cells").click()
        page.get_by_role("heading", name="Copies: the same bytes twice").wait_for()
        assert page.locator("#warnings li").all_text_contents()[: len(warnings)] == warnings
        page.locator("figure img").first.scroll_into_view_if_needed()
        until(lambda: page.evaluate(LOADED))  # wait_for_function needs eval, which the page's policy forbids
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []

        page.get_by_role("button", name="Delete cells").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
        page.get_by_text("cells was deleted.").wait_for()
        assert HTTP.get(f"{url}/datasets/cells").status_code == 404
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("It is back.").wait_for()
        assert HTTP.get(f"{url}/datasets/cells").json()["images"] == 4

        page.get_by_label("Name of the adapter").fill("smears")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Its images cannot be trained on").or_(page.locator(".problem")).first.wait_for()


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
        pushed = HTTP.put(f"{url}/datasets/cells", content=zipped(files)).raise_for_status().json()
        fingerprint = parts.engine.backbone.fingerprint.removeprefix("sha256:")
        (tmp_path / "reviews").mkdir()
        kept = tmp_path / "reviews" / f"{pushed['digest'].removeprefix('sha256:')}-{fingerprint[:16]}.json"
        kept.write_text(json.dumps(review))
        page.goto(f"{url}/#/datasets/cells")

        page.get_by_text("<i>look</i>").wait_for()
        cards = page.locator(".doubts > li")
        assert cards.count() == 2
        cards.nth(1).scroll_into_view_if_needed()
        until(lambda: page.evaluate(LOADED))
        assert page.get_by_role("button", name="Save the changes").is_disabled()
        cards.nth(0).get_by_role("button", name="Relabel as <b>").click()
        cards.nth(1).get_by_role("button", name="Relabel as <b>").click()
        cards.nth(1).get_by_role("button", name="Exclude").click()
        assert violations(page) == []
        page.get_by_role("button", name="Save 2 changes as a new version").click()
        page.locator("#dataset").get_by_text("version 2").first.wait_for()

        assert HTTP.get(f"{url}/datasets/cells").json()["classes"] == {"<b>": 5, "ok": 2}
        assert HTTP.get(f"{url}/datasets/cells?version=1").json() == pushed
