"""The view Ask in a real Chromium: adapters are picked, images are added, and each gets the answers of the API."""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.service.page.axe import violations

from lensmount_adapters import parse_adapter
from lensmount_adapters.adapter.trust import Conformal, Selective

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Locator, Page, ViewportSize
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, MakeTrusted, Until

ask = functools.partial(httpx.request, timeout=60)  # a loaded machine answers late
TOKEN = "a-token-of-the-lab"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
PHONE: ViewportSize = {"width": 360, "height": 640}


def upload(png: bytes, name: str = "cell.png") -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": png}


def labels_of(card: Locator) -> list[str]:
    """The labels of a card's bars."""
    return card.locator(".score > span:first-child").all_text_contents()


@pytest.fixture(scope="module")
def desk(make_shared_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening) -> Iterator[str]:
    """The URL of an open server with the adapters cells (three versions), malaria and tiles."""
    with make_shared_parts(feedback="on") as parts, listening(parts.app) as url:
        for name, seed, labels in (
            ("cells", 1, ("a", "b")),
            ("cells", 2, ("a", "b")),
            ("cells", 3, ("a", "b")),
            ("malaria", 4, ("Parasitized", "Uninfected")),
            ("tiles", 5, ("u", "v")),
        ):
            ask("PUT", f"{url}/adapters/{name}", content=make_adapter(seed, labels)).raise_for_status()
        yield url


def test_an_image_gets_the_labels_that_the_api_gives_and_errors_are_shown(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    nasty = "<img src=x onerror=alert(1)>.png"
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        for name, labels in (("cells", ("<b>a</b>", "b")), ("tiles", tuple("uvwxyz123"))):
            put = ask("PUT", f"{url}/adapters/{name}", content=make_adapter(len(labels), labels), headers=OPERATOR)
            put.raise_for_status()
        right = ask("POST", f"{url}/predict?adapter=cells,tiles", content=make_png(1), headers=OPERATOR).json()[
            "results"
        ]

        page.goto(url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Use this token").click()
        page.get_by_role("alert").get_by_text("Unauthorized (401)").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Use this token").click()
        page.get_by_text("Backbone test_resnet").wait_for()
        assert not page.get_by_label("Token").is_visible()
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]

        page.get_by_role("checkbox", name="cells").check()
        page.locator("#files").set_input_files([upload(make_png(1), nasty), upload(b"no image", "notes.txt")])
        page.get_by_role("checkbox", name="tiles").check()
        page.get_by_text("2 images, 1 with an error").wait_for()

        good, bad = page.locator(".card").nth(0), page.locator(".card").nth(1)
        assert good.get_by_role("heading", level=3).inner_text() == nasty
        assert "unsupported_image_format" in bad.inner_text()
        assert "Unsupported Media Type (415)" in bad.inner_text()
        for answer, result in zip(good.locator(".result").all(), right, strict=True):
            rows = answer.locator(".score")
            assert labels_of(answer) == [p["label"] for p in result["predictions"]]
            assert answer.locator(".verdict b").inner_text() == result["predictions"][0]["label"]
            for bar, prediction in zip(rows.locator(".meter").all(), result["predictions"], strict=True):
                shown = float(bar.get_attribute("aria-valuenow") or "nan")
                assert shown == pytest.approx(prediction["score"], abs=1e-5)
            answer.get_by_text("Details").click()
            answer.get_by_text(result["adapter"]["digest"]).wait_for()
        assert page.locator("canvas:visible").count() == 0
        assert violations(page) == []

        page.reload()
        page.get_by_text("Backbone test_resnet").wait_for()  # the token is still there
        page.get_by_text("2 images, 1 with an error").wait_for()  # and so are the images and what was picked
        assert page.locator(".card .result").count() == 2
        assert_examples_answer(page, right, make_png(1))
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Use this token").click()
        page.get_by_text("Backbone test_resnet").wait_for()
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
        assert page.locator(".card").count() == 0
        page.reload()
        page.locator(".welcome").wait_for()
        assert page.evaluate(STORED) == 0


STORED = """() => new Promise((resolve) => {
  indexedDB.open("lensmount-ask").onsuccess = ({target: {result}}) => {
    result.transaction("images").objectStore("images").count().onsuccess = ({target}) => resolve(target.result);
  };
})"""


def assert_examples_answer(page: Page, right: list[dict[str, Any]], png: bytes) -> None:
    """The copied examples work in a shell and in Python, and neither has the token in it."""
    page.get_by_text("Ask from a script").click()
    curl, python = page.locator(".script pre").all_text_contents()
    assert TOKEN not in curl + python
    wanted = [result["predictions"][0]["label"] for result in right]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "<img src=x onerror=alert(1)>.png").write_bytes(png)
        environment = os.environ | {"LENSMOUNT_TOKEN": TOKEN}
        for command in (["bash", "-c", f"{curl} -sS"], [sys.executable, "-c", python]):
            ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
            assert ended.returncode == 0, ended.stderr
            if command[0] == "bash":
                results = httpx.Response(200, text=ended.stdout).json()["results"]
                assert [result["predictions"][0]["label"] for result in results] == wanted
            else:
                assert [line.split(" ")[1] for line in ended.stdout.splitlines()] == wanted


BRING = """([kind, name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  const made = kind === "paste"
    ? new ClipboardEvent(kind, {...options, clipboardData: data})
    : new DragEvent(kind, {...options, dataTransfer: data});
  document.body.dispatchEvent(made);
}"""


def test_images_are_dropped_and_pasted_answers_follow_the_picks_and_a_phone_shows_it_all(
    page: Page,
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    listening: Listening,
    until: Until,
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        for seed, name in enumerate(("cells", "tiles")):
            ask("PUT", f"{url}/adapters/{name}", content=make_adapter(seed)).raise_for_status()
        page.set_viewport_size(PHONE)
        page.goto(f"{url}/#/ask")
        page.locator("#adapters input:checked").wait_for()  # one is picked at first
        assert violations(page) == []
        page.locator("#adapters input:checked").uncheck()
        page.evaluate(BRING, ["drop", "dropped.png", list(make_png(1))])
        page.evaluate(BRING, ["paste", f"{'pasted' * 20}.png", list(make_png(2))])
        page.get_by_text("2 images", exact=True).wait_for()
        assert page.locator(".card .result").count() == 0
        assert page.locator(".card").get_by_text("Pick an adapter to get an answer.").count() == 2

        page.get_by_role("checkbox", name="cells").check()
        page.get_by_role("checkbox", name="tiles").check()
        page.locator(".card .result").nth(3).wait_for()
        headings = page.locator(".card h4").all_text_contents()
        assert headings == ["cells version 1", "tiles version 1"] * 2
        page.get_by_role("checkbox", name="cells").uncheck()
        until(lambda: page.locator(".card h4").all_text_contents() == ["tiles version 1"] * 2)
        assert page.evaluate("document.documentElement.scrollWidth") == 360

        page.get_by_role("button", name="Remove dropped.png").click()
        page.get_by_text("1 image", exact=True).wait_for()
        ask("DELETE", f"{url}/adapters/tiles").raise_for_status()
        page.get_by_role("button", name="Refresh").click()
        page.get_by_role("checkbox", name="tiles").wait_for(state="detached")
        page.locator(".card").get_by_text("Pick an adapter to get an answer.").wait_for()  # no other one instead


def test_each_answer_has_a_badge_that_says_what_it_is_worth(
    page: Page,
    make_parts: MakeParts,
    make_trusted: MakeTrusted,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    listening: Listening,
) -> None:
    accepting = Selective(accuracy=0.99, threshold=0.0, share=1.0, images=90)
    unsure = Conformal(coverage=0.95, method="lac", thresholds=(None, None), images=(3, 3))
    trust = parse_adapter(make_trusted()).manifest.trust
    assert trust is not None
    assert trust.familiarity is not None
    adapters = {
        "plain": make_adapter(1),
        "sure": make_trusted(selective=accepting),
        "torn": make_trusted(selective=None, conformal=unsure),
        "few": make_trusted(selective=None, conformal=None, calibration=None),
        "unlike": make_trusted(familiarity=trust.familiarity.model_copy(update={"flag": 0.01})),
    }
    with make_parts() as parts, listening(parts.app) as url:
        for name, data in adapters.items():
            ask("PUT", f"{url}/adapters/{name}", content=data).raise_for_status()
        page.set_viewport_size(PHONE)
        page.goto(f"{url}/#/ask?{'&'.join(f'adapter={name}' for name in adapters)}")  # the address says what is picked
        page.locator("#files").set_input_files(upload(make_png(1)))
        page.get_by_text("1 image", exact=True).wait_for()

        answers = page.locator(".card .result")
        badges = [answer.locator(".trust").all_text_contents() for answer in answers.all()]
        assert badges == [
            [],
            ["sure"],
            ["not sure: no or yes"],
            ["reliability not measured"],
            ["unlike the images this was trained on"],
        ]
        hint = answers.nth(1).locator(".trust").get_attribute("title") or ""
        assert re.fullmatch(
            r"More unlike the training images than [\d.]+ % of .*Measured on 90 images kept aside.", hint
        )
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []


def test_many_images_are_a_table_that_is_sorted_filtered_and_saved(
    page: Page, desk: str, make_png: MakePng, tmp_path: Path
) -> None:
    names = [f"{number}.png" for number in range(40)]
    files = [upload(make_png(number), name) for number, name in enumerate(names)]
    files[3]["buffer"], files[3]["name"] = b"no image", "=3.png"
    page.goto(f"{desk}/#/ask?adapter=malaria")
    page.locator("#files").set_input_files(files)
    page.get_by_text("40 images, 1 with an error").wait_for()
    rows = page.locator(".image-table tbody tr:not(.space)")
    assert 0 < rows.count() < 40  # only what can be seen is drawn

    with page.expect_download() as saved:
        page.get_by_role("button", name="Download as CSV").click()
    lines = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    assert [line["image"] for line in lines] == [*names[:3], "'=3.png", *names[4:]]  # no spreadsheet computes a name
    assert lines[3]["error"] == "unsupported_image_format"
    for number in (0, 17, 39):
        right = ask("POST", f"{desk}/predict?adapter=malaria", content=make_png(number)).json()
        best = right["predictions"][0]
        assert lines[number]["label"] == best["label"]
        assert float(lines[number]["score"]) == pytest.approx(best["score"], abs=1e-5)
        assert lines[number]["digest"] == right["adapter"]["digest"]

    scores = sorted((float(line["score"]) for line in lines if line["score"]), reverse=True)
    page.get_by_role("button", name="Score").click()
    page.locator(".image-table td.number").first.filter(has_text=f"{scores[0]:.1%}").wait_for()
    assert page.get_by_role("columnheader", name="Score").get_attribute("aria-sort") == "descending"
    assert violations(page) == []
    page.get_by_label("Show").select_option("failed")
    rows.nth(1).wait_for(state="detached")
    assert rows.count() == 1
    page.get_by_role("button", name="=3.png").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("unsupported_image_format").wait_for()
    assert violations(page) == []
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.get_by_label("Show").select_option("all")
    page.locator(".image-table").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    page.get_by_role("button", name="=3.png").wait_for()  # a row without a score comes last

    page.get_by_role("button", name="Show as cards").click()
    page.locator(".card").nth(39).wait_for()
    assert page.locator(".card").count() == 40
    page.get_by_role("button", name="Remove all").click()
    page.locator(".welcome").wait_for()
    page.reload()
    page.locator(".welcome").wait_for()
    assert page.evaluate(STORED) == 0


def test_two_versions_are_compared_and_a_wrong_answer_is_corrected(page: Page, desk: str, make_png: MakePng) -> None:
    def label(reference: str, number: int) -> str:
        answer = ask("POST", f"{desk}/predict?adapter={reference}", content=make_png(number)).json()
        return str(answer["predictions"][0]["label"])

    page.goto(f"{desk}/#/ask?adapter=cells")
    page.locator("#files").set_input_files([upload(make_png(number), f"{number}.png") for number in range(4)])
    page.get_by_role("button", name="Compare with another version").click()
    page.get_by_label("Version of cells", exact=True).nth(1).select_option("version 1")
    page.get_by_role("heading", name="cells version 1").nth(3).wait_for()
    for number, card in enumerate(page.locator(".card").all()):
        answered = [label("cells@3", number), label("cells@1", number)]
        assert card.locator(".verdict b").all_text_contents() == answered
        differ = answered[0] != answered[1]
        assert card.get_by_text("Versions 3 and 1 " + ("differ" if differ else "agree")).is_visible()
    assert page.evaluate("location.hash") == "#/ask?adapter=cells&adapter=cells%401"

    answer = page.locator(".card").first.locator(".result").first
    answer.get_by_role("button", name="Wrong? Say what it is").click()
    answer.get_by_label("It is").select_option("b")
    answer.get_by_label("Your name").fill("reader1")
    assert violations(page) == []
    answer.get_by_role("button", name="Send").click()
    answer.get_by_text("The image waits in cells-feedback").wait_for()
    kept = ask("GET", f"{desk}/datasets/cells-feedback/labels").json()["labels"]
    assert [(each["label"], each["who"]) for each in kept] == [("b", "reader1")]


CAMERA = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 48});
  setInterval(() => canvas.getContext("2d").fillRect(0, 0, 32, 48), 20);
  navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(10);
}"""


def test_samples_and_the_camera_bring_images_by_the_keyboard_alone(page: Page, desk: str, until: Until) -> None:
    page.goto(f"{desk}/#/ask?adapter=malaria")
    page.get_by_role("button", name="Try with drawn samples").focus()
    page.keyboard.press("Enter")
    page.get_by_text("2 images", exact=True).wait_for()
    assert page.locator(".card h3").all_text_contents() == ["cell-parasitized.png", "cell-uninfected.png"]
    page.get_by_role("checkbox", name="tiles").focus()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="malaria").focus()
    page.keyboard.press("Space")
    page.locator(".card .result").nth(1).wait_for()
    assert page.get_by_role("button", name="Try with drawn samples").count() == 0  # they are not for tiles
    page.evaluate(CAMERA)
    page.get_by_role("button", name="Use the camera").focus()
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("document.querySelector('video')?.videoWidth > 0"))
    page.get_by_role("button", name="Take an image").click()
    page.get_by_text("3 images", exact=True).wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="Close the camera").click()


def test_a_server_that_keeps_no_images_offers_no_correction_and_many_adapters_are_searched(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        page.goto(url)
        page.get_by_text("There are no adapters yet").wait_for()
        assert violations(page) == []
        for number in range(8):
            labels = ("nucleus", "none") if number == 5 else ("a", "b")
            ask("PUT", f"{url}/adapters/task-{number}", content=make_adapter(number, labels)).raise_for_status()
        page.get_by_role("button", name="Refresh").click()
        page.get_by_label("Search adapters").fill("nucl")
        page.get_by_role("checkbox", name="task-4").wait_for(state="detached")
        assert page.locator("#adapters b").all_text_contents() == ["task-5"]
        page.get_by_role("checkbox", name="task-5").check()
        page.locator("#files").set_input_files(upload(make_png(1)))
        page.get_by_text("1 image", exact=True).wait_for()
        page.locator(".card .result").wait_for()
        assert page.get_by_role("button", name="Wrong? Say what it is").count() == 0
