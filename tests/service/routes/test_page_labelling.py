"""Labelling on the page in a real Chromium: the keyboard alone labels a pool, and what is undone is labelled again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until

LONG = f"<i>{'infected' * 8}</i>"


@pytest.mark.parametrize("width", [360, 1040])
def test_the_keyboard_alone_labels_a_pool(
    page: Page,
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    listening: Listening,
    until: Until,
    width: int,
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1, ("healthy", LONG))).raise_for_status()
        for number in range(3):
            sent = httpx.post(f"{url}/datasets/new/unlabelled?who=reader1", content=make_png(number))
            assert sent.status_code == 201
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(url)
        page.get_by_label("Pool").fill("new")
        page.get_by_label("Your name").fill("reader1")
        page.keyboard.press("Enter")

        page.get_by_role("group", name="Image 1 of 3 of new").wait_for()
        until(lambda: page.evaluate("document.querySelector('.labelled img').naturalWidth > 0"))
        assert page.get_by_role("button", name=LONG).get_attribute("aria-keyshortcuts") == "2"
        assert "Keys: 1 to 9 give a label" in page.locator(".labelled").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.keyboard.press("2")
        page.get_by_role("group", name="Image 2 of 3 of new").wait_for()
        page.keyboard.press("9")  # no label has this digit
        page.keyboard.press("u")
        page.get_by_role("group", name="Image 1 of 3 of new").wait_for()
        assert page.get_by_role("button", name=LONG).get_attribute("aria-pressed") == "true"
        page.keyboard.press("1")
        page.get_by_role("group", name="Image 2 of 3 of new").wait_for()
        page.keyboard.press("ArrowRight")
        page.get_by_role("group", name="Image 3 of 3 of new").wait_for()
        page.keyboard.press("1")
        page.get_by_text("No image is left to label").or_(
            page.get_by_role("group", name="Image 2 of 3 of new")
        ).wait_for()

        labels = httpx.get(f"{url}/datasets/new/labels").json()["labels"]
        assert [(each["label"], each["who"]) for each in labels] == [
            (LONG, "reader1"),
            ("healthy", "reader1"),
            ("healthy", "reader1"),
        ]
        assert labels[0]["digest"] == labels[1]["digest"] != labels[2]["digest"]


def test_a_pool_that_cannot_be_is_refused_where_it_was_asked_for(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1, ("a", "b"))).raise_for_status()
        page.goto(url)
        page.get_by_label("Pool").fill("none yet")
        page.get_by_label("Your name").fill("reader1")
        page.get_by_role("button", name="Start").click()

        page.locator("#labelling-images .problem").wait_for()
        assert "expected lower-case letters" in page.locator("#labelling-images").inner_text()
