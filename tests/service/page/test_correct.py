"""Correct in a real Chromium: the keyboard alone labels a pool, and an adapter learns from corrected answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.service.page.axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.service.browser import Listening
    from tests.service.conftest import DrawImages, MakeAdapter, MakeParts, MakePng, Until, Zip

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
        page.goto(f"{url}#/correct")
        page.get_by_label("Pool", exact=True).fill("new")
        page.get_by_label("Your name").fill("reader1")
        page.keyboard.press("Enter")

        page.get_by_role("group", name="Image 1 of 3 of new").wait_for(timeout=60_000)  # the network's first pass
        until(lambda: page.evaluate("document.querySelector('.labelled img').naturalWidth > 0"))
        assert page.get_by_role("button", name=LONG).get_attribute("aria-keyshortcuts") == "2"
        assert "Keys: 1 to 9 give a label" in page.locator(".labelled").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(page) == []
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

        page.goto("about:blank")  # nothing is asked of the server when it stops
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
        page.goto(f"{url}#/correct")
        page.get_by_label("Pool", exact=True).fill("none yet")
        page.get_by_label("Your name").fill("reader1")
        page.get_by_role("button", name="Start").click()

        page.locator(".labelling .problem").wait_for()
        assert "expected lower-case letters" in page.locator(".labelling").inner_text()


def test_an_adapter_learns_from_corrected_answers(
    page: Page,
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    images: DrawImages,
    zipped: Zip,
    listening: Listening,
    until: Until,
) -> None:
    with make_parts(feedback="on") as parts, listening(parts.app) as url:
        page.goto(f"{url}#/correct")
        page.get_by_text("No answer has been corrected yet").wait_for()
        page.get_by_text("Labels are those of an adapter. Teach one first.").wait_for()
        assert violations(page) == []
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1, ("a", "b"))).raise_for_status()
        httpx.put(f"{url}/datasets/cells", content=zipped(images(seed=4, a=12, b=12))).raise_for_status()
        for seed, label in ((1, "a"), (2, "b")):
            (image,) = images(seed=seed, wrong=1).values()
            query = f"adapter=cells&label={label}&who=reader1"
            assert httpx.post(f"{url}/feedback?{query}", content=image).status_code == 201
        for image in images(seed=6, new=3).values():
            httpx.post(f"{url}/datasets/new/unlabelled?who=reader1", content=image).raise_for_status()
        ask = f"{url}/datasets/new/next?adapter=cells&who=reader2&n=2&strategy=margin"
        until(lambda: httpx.post(ask).json()["state"] == "done")

        page.reload()
        card = page.locator(".corrections")
        card.get_by_text("2 images corrected.").wait_for()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="new", exact=True))
        assert row.inner_text().split("\t") == ["new", "3", "0", "reader2: 2"]
        card.get_by_text("Look at the corrections").click()
        card.locator(".thumbs select").first.wait_for()
        until(lambda: page.evaluate("[...document.querySelectorAll('.thumbs img')].every((i) => i.naturalWidth)"))
        assert card.locator(".thumbs select").evaluate_all("all => all.map((each) => each.value)") == ["b", "a"]
        card.locator(".thumbs select").first.select_option("a")
        until(lambda: len(httpx.get(f"{url}/datasets/cells-feedback/labels").json()["labels"]) == 3)
        assert card.get_by_label("Together with the images of").input_value() == "cells"
        assert violations(page) == []
        card.get_by_role("button", name="Retrain from the corrections").click()

        page.get_by_text("No worker is running, so the training waits.").wait_for()
        (job,) = httpx.get(f"{url}/jobs").json()["jobs"]
        assert (job["adapter"], job["dataset"]["name"], job["dataset"]["version"]) == ("cells", "cells-feedback", 1)
        assert page.url.endswith(f"#/correct?job={job['id']}")
        made = f"{url}/datasets/cells-feedback"
        assert httpx.get(made).json()["classes"] == {"a": 14, "b": 12}
        card.get_by_label("Together with the images of").select_option("cells-feedback")  # what the last round made
        card.get_by_role("button", name="Retrain from the corrections").click()
        until(lambda: len(httpx.get(f"{url}/jobs").json()["jobs"]) == 2)
        page.goto("about:blank")  # the server waits for the stream of the job's events
        assert httpx.get(made).json()["classes"] == {"a": 14, "b": 12}


def test_images_without_a_label_are_sent_from_the_page(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1, ("a", "b"))).raise_for_status()
        page.goto(f"{url}#/correct")
        page.get_by_text("This server keeps no images of answers").wait_for()
        page.get_by_text("Send images that wait for a label").click()
        page.get_by_label("Into the pool").fill("new")
        chosen: list[FilePayload] = [
            {"name": f"{n}.png", "mimeType": "image/png", "buffer": make_png(n % 2)} for n in range(3)
        ]
        page.get_by_label("Images without a label").set_input_files(chosen)
        page.get_by_text("2 images added to new. It already had 1 of them.").wait_for()
        page.get_by_role("rowheader", name="new").wait_for()
