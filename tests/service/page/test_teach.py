"""Teach in a real Chromium: from a folder of images to a first draft, a live training and an adapter that answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image
from tests.service.page.axe import violations
from tests.service.page.worker import TREES, train

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

    from lensmount_service.build import Parts

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture(scope="module")
def served(make_shared_parts: MakeParts, listening: Listening) -> Iterator[tuple[Parts, str]]:
    with make_shared_parts(max_upload_chunk_bytes=64 * 1024) as parts, listening(parts.app) as url:
        yield parts, url


def test_the_leaves_are_live_after_three_clicks_and_a_reload_keeps_them(
    page: Page, served: tuple[Parts, str], make_adapter: MakeAdapter
) -> None:
    parts, url = served
    page.goto(url)
    page.get_by_role("link", name="Teach", exact=True).click()
    page.get_by_role("button", name="Try this: 60 drawn leaves of three trees").wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="Try this: 60 drawn leaves of three trees").click()
    page.get_by_text("Ready.").wait_for()
    assert page.locator(".column .title input").evaluate_all("fields => fields.map(field => field.value)") == list(
        TREES
    )
    page.get_by_role("button", name="Teach", exact=True).click()

    page.get_by_text("First draft live").wait_for(timeout=120_000)  # the network's first pass
    page.get_by_text("It is a first draft from 60 images.").wait_for()
    page.get_by_label("An image to ask about").set_input_files(SAMPLES / "leaf-oak.png")
    page.locator(".told .top").wait_for()
    assert page.locator(".told .top").inner_text() in TREES
    assert "The first draft from 60 images says" in page.locator(".told").inner_text()
    page.get_by_text("No worker is running, so the training waits.").wait_for()
    assert violations(page) == []
    assert httpx.get(f"{url}/datasets/leaves").json()["classes"] == dict.fromkeys(TREES, 20)
    assert httpx.get(f"{url}/adapters/leaves").json()["draft"] is True

    steps = train(parts, url, make_adapter(1, TREES))
    next(steps)
    page.get_by_text("about 12 s left").wait_for()
    page.reload()  # the address has the job, and the browser the images
    page.get_by_text("about 12 s left").wait_for()
    assert page.get_by_role("progressbar", name="Training").get_attribute("aria-valuenow") == "10"
    assert page.get_by_role("img", name="The error went from 1.00 to 0.33 in 3 rounds.").is_visible()
    assert page.locator(".curves polyline").count() == 3
    assert violations(page) == []
    next(steps)
    page.get_by_role("heading", name="leaves is live, as version 2").wait_for()
    assert "right on 8 of 9 images" in page.locator(".outcome").inner_text()
    assert page.locator(".outcome tbody tr").nth(2).inner_text().split() == ["oak", "3", "2", "1", "as", "maple"]
    assert page.get_by_role("link", name="Ask it").get_attribute("href") == "#/ask?adapter=leaves"
    assert page.get_by_role("link", name="Report").get_attribute("href") is not None
    assert violations(page) == []

    page.get_by_text("60 images: add or remove some, and teach again").click()
    page.locator(".thumbnails img").nth(59).wait_for()
    assert page.locator(".thumbnails img").count() == 60
    page.get_by_role("button", name="Start over").click()
    page.get_by_text("The images stay in this browser until you press Teach").wait_for()
    page.reload()
    page.get_by_role("button", name="Try this: 60 drawn leaves of three trees").wait_for()
    assert page.locator(".thumbnails").count() == 0


def test_copies_conflicts_and_unreadable_files_are_shown_as_they_come(
    page: Page, served: tuple[Parts, str], make_png: MakePng, tmp_path: Path
) -> None:
    _, url = served
    folder = tmp_path / "Röte Zellen"
    for number, label in enumerate(("白血球", "Öl & <b>")):
        (folder / label).mkdir(parents=True)
        for index in range(6):
            (folder / label / f"{index}.png").write_bytes(make_png(100 * number + index, (40, 40)))
    shutil.copy(folder / "白血球/0.png", folder / "白血球/copy.png")
    shutil.copy(folder / "白血球/1.png", folder / "Öl & <b>/same.png")
    (folder / "白血球/broken.png").write_bytes(make_png(1)[:90])
    (folder / "白血球/notes.txt").write_text("read me")
    (folder / "白血球/empty.jpg").write_bytes(b"")
    (folder / "白血球/.DS_Store").write_bytes(b"x")
    Image.new("RGB", (40, 40), "white").save(folder / "Öl & <b>/plain.png")

    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(f"{url}#/teach")
    page.get_by_label("A folder of class folders").set_input_files(folder)
    page.get_by_text("3 files could not be used").wait_for()
    page.get_by_text("1 image is in two classes. Choose one class for each.").wait_for()
    told = page.locator(".notices").inner_text()
    assert "1 image left out: the class already has a copy." in told
    assert "1 image marked as doubtful" in told
    for name, reason in (
        ("broken.png", "it is damaged"),
        ("notes.txt", "it is not an image"),
        ("empty.jpg", "it is empty"),
    ):
        assert f"{name}: {reason}" in told.replace("Röte Zellen/白血球/", "")
    assert page.locator(".thumbnails .clash").count() == 2
    assert page.locator(".thumbnails .doubt").get_attribute("title") == "plain.png: one colour only"
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.get_by_role("button", name="Keep in 白血球").click()
    page.get_by_role("button", name="Remove plain.png").click()
    page.get_by_role("button", name="Remove the class 白血球").click()
    page.get_by_text("6 images removed.").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Ready.").wait_for()
    assert page.get_by_label("Name of the task").input_value() == "rote-zellen"

    page.get_by_role("button", name="Teach", exact=True).click()
    page.get_by_text("Training makes it better, and needs about 20 images of each class.").wait_for()
    sent = httpx.get(f"{url}/datasets/rote-zellen").json()
    assert sent["classes"] == {"白血球": 6, "Öl & <b>": 6}
    assert httpx.get(f"{url}/adapters/rote-zellen").json()["labels"] == ["Öl & <b>", "白血球"]
    page.get_by_role("button", name="Train with these images").click()
    page.get_by_text("No worker is running").or_(page.locator(".steps .problem")).first.wait_for()


def test_large_images_are_sent_in_pieces_and_images_come_one_class_at_a_time_or_in_a_zip(
    page: Page, served: tuple[Parts, str], make_png: MakePng, tmp_path: Path
) -> None:
    _, url = served
    pieces: list[str] = []
    page.on("request", lambda request: pieces.append(request.method) if "/uploads/" in request.url else None)
    page.goto(f"{url}#/teach")
    for index, label in enumerate(("large", "small")):
        named = page.get_by_label("Name of the class").nth(index)
        named.fill(label)
        chosen: list[FilePayload] = [
            {"name": f"{n}.png", "mimeType": "image/png", "buffer": make_png(50 * index + n, (400, 300))}
            for n in range(5)
        ]
        page.get_by_label(f"Images of {label}").set_input_files(chosen)
    page.get_by_text("Give the task a name.").wait_for()
    page.get_by_label("Name of the task").fill("Two Sizes!")
    page.get_by_label("Name of the task").blur()
    assert page.get_by_label("Name of the task").input_value() == "two-sizes"
    page.get_by_role("button", name="Teach", exact=True).click()
    page.get_by_text("First draft live").wait_for()
    assert pieces[0] == "GET"
    assert set(pieces[1:]) == {"PUT"}
    assert len(pieces) > 3
    sent = httpx.get(f"{url}/datasets/two-sizes").json()
    assert (sent["version"], sent["classes"]) == (1, {"large": 5, "small": 5})

    page.get_by_role("button", name="Start over").click()
    dropped = (SAMPLES.parent / "service/lensmount_service/page/samples/leaves.zip").read_bytes()
    page.locator(".intake").evaluate(
        """(place, data) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(data, (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "leaves.zip"));
            place.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        dropped.decode("latin-1"),
    )
    page.get_by_text("Give the task a name.").wait_for()
    assert page.locator(".column .title input").evaluate_all("fields => fields.map(field => field.value)") == list(
        TREES
    )


def test_a_refusal_is_shown_where_it_happens_and_a_trained_adapter_answers_on(
    page: Page, served: tuple[Parts, str], make_adapter: MakeAdapter
) -> None:
    _, url = served
    httpx.put(f"{url}/adapters/trees", content=make_adapter(3, TREES)).raise_for_status()
    page.goto(f"{url}#/teach")
    page.get_by_role("button", name="Try this: 60 drawn leaves of three trees").click()
    page.get_by_text("Ready.").or_(page.get_by_text("This makes its next version")).wait_for()
    page.get_by_label("Name of the task").fill("trees")
    page.get_by_label("Name of the task").blur()
    page.get_by_text("trees exists as version 1. This makes its next version.").wait_for()
    page.route(
        "**/jobs",
        lambda route: (
            route.fulfill(
                status=422,
                content_type="application/problem+json",
                body=json.dumps(
                    {
                        "title": "Refused",
                        "status": 422,
                        "code": "dataset_too_small",
                        "detail": "found 1, expected 2. Fix: add one",
                    }
                ),
            )
            if route.request.method == "POST"
            else route.continue_()
        ),
    )
    page.get_by_role("button", name="Teach", exact=True).click()

    page.get_by_text("Version 1 answers until the new one is trained").wait_for()
    page.get_by_text("found 1, expected 2. Fix: add one").wait_for()
    assert httpx.get(f"{url}/adapters/trees").json()["version"] == 1
    page.unroute("**/jobs")
    page.get_by_role("button", name="Train with these images").click()
    page.get_by_text("No worker is running").wait_for()
    page.get_by_role("button", name="Stop the training").click()
    page.get_by_text("The training was stopped").wait_for()
    page.get_by_role("button", name="Train again").click()
    page.get_by_text("No worker is running").wait_for()
