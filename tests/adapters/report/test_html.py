"""The HTML report is one file: it loads nothing, and it shows hostile content as plain text."""

from __future__ import annotations

import base64
import io
import re
import time
import zipfile
from collections import Counter
from datetime import date
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.paired import pair
from lensmount_adapters.report.context import Before, ReportContext
from lensmount_adapters.report.html import html_report

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

DIGEST = "sha256:" + "12" * 32
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The page as a browser reads it; raises AssertionError if an element is not closed."""

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

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    @property
    def names(self) -> set[str]:
        return {name for _, attributes in self.elements for name in attributes}

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def image_file(path: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((250, 180), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_page_shows_metrics_charts_mistakes_cost_and_how_it_was_made(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels = ["oak", "elm", "ash"]
    test = draw_judged(labels, images=60, wrong=6)

    page = Page(
        html_report(
            draw_manifest(labels), DIGEST, 20_000, {"validation": draw_judged(labels), "test": test}, image_file
        )
    )

    assert "54 of 60 held-out images classified correctly: accuracy 0.900" in page.text
    assert f"Expected calibration error {calibration(test.truth, test.scores).error:.3f}" in page.text
    assert "6 misclassified images, most confident first." in page.text
    assert "One full model takes as much space as 20 adapters of this size" in page.text
    assert all(words in page.text for words in ("1 min 23 s", "augmentation.zoom", "0.8, 1.2", "torch 2.99", DIGEST))
    titles = [
        text for text in page.shown if text.startswith(("Loss over", "Accuracy over", "ROC curves", "Reliability"))
    ]
    assert len(titles) == 4
    assert page.text.count("oak, AUROC") == 2  # the title that is read aloud and the legend


def test_nothing_is_loaded_from_elsewhere_and_no_script_can_run(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    text = html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": draw_judged(["oak", "elm"])}, image_file)

    page = Page(text)

    assert not {"script", "link", "iframe", "object", "base", "form"} & page.tags
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
def test_hostile_labels_paths_records_notes_and_reasons_are_shown_as_text(
    words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels = [words, "elm"]
    manifest = draw_manifest(labels, description=words, license=words)
    training = {**manifest.training, "versions": {words: words}, words: words, "data": {"name": words, "images": 3}}
    manifest = manifest.model_copy(update={"training": training})
    scored = draw_judged(labels, images=4, wrong=4, paths=[words] * 4)
    calm = html_report(
        draw_manifest(["oak", "elm"]), DIGEST, 9, {"test": draw_judged(["oak", "elm"], 4, 4)}, image_file
    )

    text = html_report(
        manifest,
        DIGEST,
        9,
        {"test": scored},
        image_file,
        ReportContext(gate={"passed": False, "reason": words}, notes=[words]),
    )

    page = Page(text)
    assert page.text.count(" ".join(words.split())) > 10
    assert page.tags == Page(calm).tags
    assert page.names <= Page(calm).names | {"title"}


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_statements_positive_labels_and_earlier_versions_are_shown_as_text(
    words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    def page(words: str, labels: list[str]) -> Page:
        manifest = draw_manifest(labels)
        said = {"author": words, "intended_use": words, "limits": words, "prevalence": 0.1}
        settings = {"positive": labels[0], "targets": words}
        training = {**manifest.training, "card": said, "hyper_parameters": settings, "weights": f"/x/{words}"}
        manifest = manifest.model_copy(update={"training": {**training, "calibration": {"why": words}}})
        after, before = draw_judged(labels, 4, 1, paths=[words] * 4), draw_judged(labels, 4, 4, paths=[words] * 4)
        earlier = Before(words, DIGEST, pair(before, after, labels), words)
        context = ReportContext(before=earlier, heat_map=image_file)
        return Page(html_report(manifest, DIGEST, 9, {"test": after}, image_file, context))

    calm, hostile = page("oak", ["oak", "elm"]), page(words, [words, "elm"])

    assert hostile.text.count(" ".join(words.split())) > 25
    assert hostile.tags == calm.tags
    assert hostile.names <= calm.names | {"title"}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_name_of_a_part_is_shown_as_text(
    words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {words: draw_judged(["oak", "elm"])}, image_file))

    assert f"images of the part {' '.join(words.split())} classified correctly" in page.text


def test_every_image_has_a_text_and_every_table_a_caption(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    for labels in (["oak", "elm"], [f"species {number}" for number in range(30)]):
        page = Page(html_report(draw_manifest(labels), DIGEST, 20_000, {"test": draw_judged(labels, 90)}, image_file))

        assert all(image["alt"] for image in page.all("img"))
        assert len(page.all("caption")) == len(page.all("table"))
        for svg in page.all("svg"):
            assert svg.get("aria-hidden") == "true" or svg["aria-labelledby"]
        ids = [str(a["id"]) for _, a in page.elements if "id" in a]
        assert Counter(ids).most_common(1)[0][1] == 1
        named = {str(svg["aria-labelledby"]) for svg in page.all("svg") if "aria-labelledby" in svg}
        assert named <= set(ids)
        assert page.all("html")[0]["lang"] == "en"


def test_without_validation_only_the_curves_of_training_are_drawn(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    manifest = draw_manifest(["oak", "elm"])
    history = [
        line | {"validation_loss": None, "validation_balanced_accuracy": None} for line in manifest.training["history"]
    ]
    manifest = manifest.model_copy(update={"training": {**manifest.training, "history": history}})

    page = Page(html_report(manifest, DIGEST, 20_000, {"test": draw_judged(["oak", "elm"])}, image_file))

    assert "training: from 1.000 to 0.200." in page.text
    assert "validation: from" not in page.text


def test_without_a_test_part_validation_is_shown_and_named(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    page = Page(
        html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {"validation": draw_judged(["oak", "elm"])}, image_file)
    )

    assert "validation images classified correctly: accuracy 0.900" in page.text
    assert "These images chose the epoch and the temperature" in page.text
    assert "Worst mistakes (validation part)" in page.text


def test_without_any_part_the_page_says_that_the_accuracy_is_unknown(draw_manifest: DrawManifest) -> None:
    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {}, image_file))

    assert "its accuracy on new images is unknown" in page.text
    assert "Learning curves" in page.text
    assert "Worst mistakes" not in page.text


def test_without_a_record_the_scored_part_is_shown_anyway(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    manifest = draw_manifest(["oak", "elm"], training={})

    page = Page(html_report(manifest, DIGEST, 20_000, {"all": draw_judged(["oak", "elm"])}, image_file))

    assert "36 of 40 images classified correctly" in page.text
    assert "Learning curves" not in page.text
    assert "Compared with full fine-tuning" not in page.text


def test_one_epoch_is_a_dot(draw_manifest: DrawManifest) -> None:
    page = Page(html_report(draw_manifest(["oak", "elm"], epochs=1), DIGEST, 20_000, {}, image_file))

    assert "Loss over 1 epoch" in page.text
    assert len([c for c in page.all("circle") if c["class"] == "dot s0"]) == 2


@pytest.mark.parametrize(
    ("wrong", "words"), [(0, "All images were classified correctly."), (1, "1 misclassified image.")]
)
def test_no_mistake_and_one_mistake_read_well(
    wrong: int, words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    scored = draw_judged(["oak", "elm"], wrong=wrong)

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": scored}, image_file))

    assert words in page.text
    assert len(page.all("img")) == 6 + wrong  # three samples of each class


def test_a_part_of_one_class_has_no_curve_and_says_so(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    scored = draw_judged(["oak", "elm"], images=1, wrong=0)

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": scored}, image_file))

    assert "No ROC curve: all images are of one class" in page.text


def test_thumbnails_are_small_and_a_missing_or_broken_file_is_reported(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    def read(path: str) -> bytes:
        if path == "gone":
            raise FileNotFoundError(path)
        if path == "zip":
            raise zipfile.BadZipFile(path)
        return b"not an image" if path == "broken" else image_file(path)

    scored = draw_judged(["oak", "elm"], images=4, wrong=4, paths=["gone", "broken", "zip", "whole"])

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"test": scored}, read))

    _, image = page.all("img")
    kind, data = str(image["src"]).split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert opened.size == (128, 92)
    assert page.text.count("image not available") == 6  # as samples and as mistakes


def test_two_hundred_classes_are_summarised_in_a_small_page(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels = [f"species {number}" for number in range(200)]
    scored = draw_judged(labels, images=1000, wrong=100)

    text = html_report(draw_manifest(labels), DIGEST, 20_000, {"test": scored}, image_file)

    page = Page(text)
    assert len(text) < 500_000
    assert "24 of 100 misclassified images, most confident first." in page.text
    assert "The 40 classes of 200 with the lowest recall" in page.text
    assert "Shown: the 7 of 200 classes with the lowest AUROC" in page.text
    heat = next(str(image["src"]) for image in page.all("img") if image.get("class") == "heat")
    with Image.open(io.BytesIO(base64.b64decode(heat.split(",")[1]))) as opened:
        assert opened.size == (200, 200)
        alpha = np.asarray(opened)[..., 3]
    confusion = np.array(scored.metrics.confusion)
    assert ((alpha > 0) == (confusion > 0)).all()


def test_a_page_of_two_hundred_images_takes_little_time(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    labels = ["oak", "elm", "ash"]
    manifest, scored = draw_manifest(labels, epochs=40), draw_judged(labels, images=200, wrong=60)
    started = time.process_time()

    text = html_report(manifest, DIGEST, 20_000, {"validation": scored, "test": scored}, image_file)

    assert time.process_time() - started < 2
    assert len(text) < 1_000_000


def test_the_page_shows_who_made_it_for_what_and_when_and_what_is_not_known(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    manifest = draw_manifest(["oak", "elm"])
    card = {"author": "Ada", "intended_use": "Leaves on white paper.", "limits": "No bark.", "prevalence": 0.02}
    settings = {**manifest.training["hyper_parameters"], "positive": "oak"}
    training = {**manifest.training, "card": card, "hyper_parameters": settings, "weights": "/home/ada/net.safetensors"}
    manifest = manifest.model_copy(update={"training": training})
    context = ReportContext(written=date(2026, 2, 3))

    page = Page(html_report(manifest, DIGEST, 9, {"test": draw_judged(["oak", "elm"])}, image_file, context))

    assert (
        "Date of the report: 2026-02-03 . Author: Ada . Weights of the backbone: the file net.safetensors ."
        in page.text
    )
    assert "/home/ada" not in page.text
    assert "Leaves on white paper." in page.text
    assert "Limits: No bark." in page.text
    assert "The test part has 40 images." in page.text
    assert "sensitivity 0.900 (18 of 20; 95 % interval 0.699 to 0.972)" in page.text
    assert "where 2 % of all images are oak" in page.text
    assert "not set" not in page.text
    assert "alpha 8" in page.text


def test_a_page_names_nobody_and_no_positive_result_unless_asked(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    text = html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {"test": draw_judged(["oak", "elm"])}, image_file)

    assert "Author" not in text
    assert "as the positive result" not in text


def test_heat_maps_stand_below_the_images_that_have_one(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    asked: list[str] = []

    def heat_map(path: str) -> bytes | None:
        asked.append(path)
        return None if len(asked) % 2 else image_file(path)

    scored = draw_judged(["oak", "elm"], images=40, wrong=20)
    context = ReportContext(heat_map=heat_map)

    page = Page(html_report(draw_manifest(["oak", "elm"]), DIGEST, 9, {"test": scored}, image_file, context))

    assert len(asked) == 2 + 12  # one of each class and the worst mistakes
    shown = [image for image in page.all("img") if str(image["alt"]).startswith("What speaks for")]
    assert len(shown) == 7
    assert "Coloured: what speaks for the answer" in page.text
