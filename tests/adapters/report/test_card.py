"""The model card in Markdown."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.report.card import duration, method_of, model_card, plain
from lensmount_adapters.report.context import CardTexts

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

DIGEST = "sha256:" + "12" * 32


def tables_of(card: str) -> list[list[list[str]]]:
    """The cells of every table, split at bars that are not escaped."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", card, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().splitlines()] for block in blocks]


def test_a_card_gives_the_metrics_of_the_test_part(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    test = draw_judged(["oak", "elm"], images=40, wrong=4)

    card = model_card(
        draw_manifest(["oak", "elm"]), DIGEST, 20_000, {"validation": draw_judged(["oak", "elm"]), "test": test}
    )

    assert card.startswith("# trees\n\nWhich tree?\n")
    assert "## Test\n\n40 images of 9 groups, held out from training." in card
    assert "- balanced accuracy **0.900**" in card
    assert "(36 of 40; 95 % interval 0.769 to 0.960)" in card
    assert f"- expected calibration error {calibration(test.truth, test.scores).error:.3f}" in card
    assert "| oak | 0.900 | 0.900 | 0.900 | 20 | 18 / 2 |" in card
    assert "this file is 1/20 its size" in card
    assert DIGEST in card
    assert "Best epoch 5 of 5, 1 min 23 s in bf16 on 2 CPU thread(s), torch 2.99." in card


def test_without_parts_the_card_gives_the_record_s_metrics(
    draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    manifest = draw_manifest(["oak", "elm"])
    figures = {"test": draw_judged(["oak", "elm"]).metrics.to_json()}
    manifest = manifest.model_copy(update={"training": {**manifest.training, "metrics": figures}})

    card = model_card(manifest, None, 20_000)

    assert "- balanced accuracy **0.900**" in card
    assert "calibration" not in card


def test_without_any_metrics_the_card_has_no_such_section(draw_manifest: DrawManifest) -> None:
    card = model_card(draw_manifest(["oak", "elm"]), DIGEST, 20_000, {})

    assert "accuracy" not in card
    assert "## Data" in card


def test_an_adapter_without_a_record_has_a_card_too(draw_manifest: DrawManifest) -> None:
    card = model_card(draw_manifest(["oak", "elm"], training={}, description="", license=""), DIGEST, 20_000)

    assert "| file | 20,000 bytes |" in card
    assert "## " not in card


def test_the_texts_beyond_the_record_are_placed_in_order(draw_manifest: DrawManifest) -> None:
    texts = CardTexts("Trees", "Read this.", "Photographs (CC0).", "tree", "Leaves only.", "    lensmount train ...")

    card = model_card(draw_manifest(["oak", "elm"]), DIGEST, 20_000, texts=texts)

    order = [
        "**Trees.** Which tree?",
        "Read this.",
        "Photographs (CC0).",
        "Split by tree",
        "Leaves only.",
        "lensmount train",
    ]
    assert sorted(order, key=card.index) == order


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", "a|b", "**bold**", "[x](javascript:alert(1))", "`", "&lt;"]
)
def test_no_label_is_read_as_markup_or_breaks_a_table(
    label: str, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    labels = [label, "elm"]

    card = model_card(draw_manifest(labels), DIGEST, 20_000, {"test": draw_judged(labels)})

    assert not re.search(r"(?<!\\)<script|(?<!\\)\*\*bold|(?<!\\)\[x|&lt;(?<!\\&lt;)", card)
    for table in tables_of(card):
        assert len({len(row) for row in table}) == 1
    assert plain(label) in card


def test_escaping_does_not_change_ordinary_words() -> None:
    assert plain("lung_aca, H&E-stained, 5 µm") == "lung_aca, H&E-stained, 5 µm"
    assert plain("_a_ &amp;\nb") == r"\_a\_ \&amp; b"
    assert html.unescape(plain("&lt;").replace("\\", "")) == "<"


def test_many_classes_give_a_card_of_one_screen_or_two(draw_manifest: DrawManifest, draw_judged: DrawJudged) -> None:
    labels = [f"species {number}" for number in range(200)]

    card = model_card(draw_manifest(labels), DIGEST, 20_000, {"test": draw_judged(labels, images=400, wrong=30)})

    assert len(card) < 8_000
    assert "The 50 classes of 200 with the lowest recall" in card
    assert "and 180 more" in card


def test_the_method_and_the_duration_in_words(draw_manifest: DrawManifest) -> None:
    assert method_of(draw_manifest(["a", "b"])) == "lora, rank 4, linear head"
    assert method_of(draw_manifest(["a", "b"], modules={}, method="head")) == "head, linear head"
    mixed = {"a": {"rank": 2, "alpha": 4.0}, "b": {"rank": 8, "alpha": 16.0}}
    assert method_of(draw_manifest(["a", "b"], modules=mixed)) == "lora, ranks 2 to 8, linear head"
    assert [duration(s) for s in (0.4, 59.6, 200, 7500)] == ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]


@pytest.mark.parametrize("name", ["malaria", "smoking", "histology"])
def test_the_cards_of_the_zoo_say_what_a_card_of_the_file_says_today(name: str) -> None:
    zoo = Path(__file__).parents[3] / "adapters" / "zoo"
    content = (zoo / f"{name}.safetensors").read_bytes()
    shipped = (zoo / f"{name}.md").read_text().split("\n## ")
    written = model_card(parse_adapter(content).manifest, None, len(content)).split("\n## ")

    measured = [section for section in written if section.startswith(("Test", "What single answers"))]
    assert measured
    assert [section.strip() for section in measured] == [
        section.strip() for section in shipped if section.startswith(("Test", "What "))
    ]
