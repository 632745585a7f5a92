"""The HTML report: one file, nothing loaded, nothing believed."""

from __future__ import annotations

import base64
import io
import re
import time
import zipfile
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.report.html import html_report

DIGEST = "sha256:" + "12" * 32
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The page as a browser reads it; raises where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture_file(path: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((250, 180), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_page_shows_figures_charts_mistakes_cost_and_how_it_was_made(draw_manifest, draw_judged) -> None:
    labels = ["oak", "elm", "ash"]
    test = draw_judged(labels, images=60, wrong=6)

    page = Page(
        html_report(
            draw_manifest(labels), DIGEST, 20_000, {"validation": draw_judged(labels), "test": test}, picture_file
        )
    )

    assert "54 of 60 images that training never saw are answered rightly: accuracy 0.900" in page.text
    assert f"Expected calibration error {calibration(test.truth, test.scores).error:.3f}" in page.text
    assert "All 6 images answered wrongly" in page.text
    assert "20 adapters of this size fit in the space of one whole model" in page.text
    assert all(words in page.text for words in ("1 min 23 s", "augmentation.zoom", "0.8, 1.2", "torch 2.99", DIGEST))
    titles = [
        text for text in page.shown if text.startswith(("Loss over", "Accuracy over", "ROC curves", "Reliability"))
    ]
    assert len(titles) == 4
    assert page.text.count("oak, AUROC") == 2  # the title that is read aloud and the legend


def test_nothing_is_loaded_from_elsewhere_and_no_script_can_run(draw_manifest, draw_judged) -> None:
    text = html_report(
        draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": draw_judged(["oak", "elm"])}, picture_file
    )

    page = Page(text)

    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    assert "url(" not in text
    assert not re.search(r"https?://", text)
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    policy = next(str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; --share:9; background:url(//x)",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac$ _under",
    "\u202egnp.exe",
    "樫",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_labels_paths_records_notes_and_reasons_are_shown_and_never_obeyed(
    words: str, draw_manifest, draw_judged
) -> None:
    labels = [words, "elm"]
    manifest = draw_manifest(labels, description=words, license=words)
    training = {**manifest.training, "versions": {words: words}, words: words, "data": {"name": words, "images": 3}}
    manifest = manifest.model_copy(update={"training": training})
    judged = draw_judged(labels, images=4, wrong=4, paths=[words] * 4)
    calm = html_report(
        draw_manifest(["oak", "elm"]), DIGEST, 9, {"test": draw_judged(["oak", "elm"], 4, 4)}, picture_file
    )

    text = html_report(
        manifest, DIGEST, 9, {"test": judged}, picture_file, gate={"passed": False, "reason": words}, notes=[words]
    )

    page = Page(text)
    assert page.text.count(" ".join(words.split())) > 10
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(calm).elements}
    assert {name for _, a in page.elements for name in a} <= {name for _, a in Page(calm).elements for name in a} | {
        "title"
    }


@pytest.mark.parametrize("words", HOSTILE)
def test_the_name_of_a_part_is_hostile_as_well(words: str, draw_manifest, draw_judged) -> None:
    page = Page(
        html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {words: draw_judged(["oak", "elm"])}, picture_file)
    )

    assert f"images of the part {' '.join(words.split())} are" in page.text


def test_every_picture_has_words_and_every_table_a_caption(draw_manifest, draw_judged) -> None:
    for labels in (["oak", "elm"], [f"species {number}" for number in range(30)]):
        page = Page(html_report(draw_manifest(labels), DIGEST, 20_000, {"test": draw_judged(labels, 90)}, picture_file))

        assert all(image["alt"] for image in page.all("img"))
        assert len(page.all("caption")) == len(page.all("table"))
        for svg in page.all("svg"):
            assert svg.get("aria-hidden") == "true" or svg["aria-labelledby"]
        ids = [str(a["id"]) for _, a in page.elements if "id" in a]
        assert Counter(ids).most_common(1)[0][1] == 1
        named = {str(svg["aria-labelledby"]) for svg in page.all("svg") if "aria-labelledby" in svg}
        assert named <= set(ids)
        assert page.all("html")[0]["lang"] == "en"


def test_without_validation_the_curves_of_training_alone_are_drawn(draw_manifest, draw_judged) -> None:
    manifest = draw_manifest(["oak", "elm"])
    history = [
        line | {"validation_loss": None, "validation_balanced_accuracy": None} for line in manifest.training["history"]
    ]
    manifest = manifest.model_copy(update={"training": {**manifest.training, "history": history}})

    page = Page(html_report(manifest, DIGEST, 20_000, {"test": draw_judged(["oak", "elm"])}, picture_file))

    assert "training: from 1.000 to 0.200." in page.text
    assert "validation: from" not in page.text


def test_without_a_test_part_validation_is_shown_and_called_so(draw_manifest, draw_judged) -> None:
    page = Page(
        html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {"validation": draw_judged(["oak", "elm"])}, picture_file)
    )

    assert "validation images, which chose the epoch" in page.text
    assert "Worst mistakes (validation part)" in page.text


def test_without_any_part_the_page_says_that_nothing_is_known(draw_manifest) -> None:
    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {}, picture_file))

    assert "nothing is known of how well it does" in page.text
    assert "Learning curves" in page.text
    assert "Worst mistakes" not in page.text


def test_without_a_record_the_judged_part_is_shown_all_the_same(draw_manifest, draw_judged) -> None:
    manifest = draw_manifest(["oak", "elm"], training={})

    page = Page(html_report(manifest, DIGEST, 20_000, {"all": draw_judged(["oak", "elm"])}, picture_file))

    assert "36 of 40 images are answered rightly" in page.text
    assert "Learning curves" not in page.text
    assert "Beside full fine-tuning" not in page.text


def test_one_epoch_is_a_dot(draw_manifest) -> None:
    page = Page(html_report(draw_manifest(["oak", "elm"], epochs=1), DIGEST, 20_000, {}, picture_file))

    assert "Loss over 1 epoch" in page.text
    assert len([c for c in page.all("circle") if c["class"] == "dot s0"]) == 2


@pytest.mark.parametrize(
    ("wrong", "words"), [(0, "No image was answered wrongly"), (1, "All 1 image answered wrongly")]
)
def test_no_mistake_and_one_mistake_read_well(wrong: int, words: str, draw_manifest, draw_judged) -> None:
    judged = draw_judged(["oak", "elm"], wrong=wrong)

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": judged}, picture_file))

    assert words in page.text
    assert len(page.all("img")) == wrong


def test_a_part_of_one_class_has_no_curve_and_says_so(draw_manifest, draw_judged) -> None:
    judged = draw_judged(["oak", "elm"], images=1, wrong=0)

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": judged}, picture_file))

    assert "No ROC curve: the images are all of one class" in page.text


def test_thumbnails_are_small_and_a_file_that_is_gone_or_broken_leaves_a_gap(draw_manifest, draw_judged) -> None:
    def read(path: str) -> bytes:
        if path == "gone":
            raise FileNotFoundError(path)
        if path == "zip":
            raise zipfile.BadZipFile(path)
        return b"no image" if path == "broken" else picture_file(path)

    judged = draw_judged(["oak", "elm"], images=4, wrong=4, paths=["gone", "broken", "zip", "whole"])

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": judged}, read))

    (image,) = page.all("img")
    kind, data = str(image["src"]).split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (128, 92)
    assert page.text.count("no picture") == 3


def test_two_hundred_classes_are_summarised_in_a_small_page(draw_manifest, draw_judged) -> None:
    labels = [f"species {number}" for number in range(200)]
    judged = draw_judged(labels, images=1000, wrong=100)

    text = html_report(draw_manifest(labels), DIGEST, 20_000, {"test": judged}, picture_file)

    page = Page(text)
    assert len(text) < 500_000
    assert "The 24 of 100 images answered wrongly" in page.text
    assert "The 40 classes of 200 with the lowest recall" in page.text
    assert "The 7 classes of 200 with the lowest AUROC" in page.text
    heat = next(str(image["src"]) for image in page.all("img") if image.get("class") == "heat")
    with Image.open(io.BytesIO(base64.b64decode(heat.split(",")[1]))) as picture:
        assert picture.size == (200, 200)
        alpha = np.asarray(picture)[..., 3]
    confusion = np.array(judged.metrics.confusion)
    assert ((alpha > 0) == (confusion > 0)).all()


def test_a_page_of_two_hundred_images_takes_little_time(draw_manifest, draw_judged) -> None:
    labels = ["oak", "elm", "ash"]
    manifest, judged = draw_manifest(labels, epochs=40), draw_judged(labels, images=200, wrong=60)
    started = time.process_time()

    text = html_report(manifest, DIGEST, 20_000, {"validation": judged, "test": judged}, picture_file)

    assert time.process_time() - started < 2
    assert len(text) < 1_000_000
