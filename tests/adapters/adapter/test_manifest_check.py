"""Numbers that float32 turns into 0 or infinity, and texts that are not what they seem to be, are refused by place."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_adapters.adapter.manifest import CosineHead, Factors, LeakyReluLayer, LinearHead, LinearLayer, MlpHead
from lensmount_adapters.adapter.manifest_check import check_numbers, check_texts
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.rules import IntensityRange, Preprocessing, VolumePreprocessing

HALF = (0.5, 0.5, 0.5)


def rule(**fields: Any) -> Preprocessing:
    return Preprocessing(**{"size": (64, 64), "mean": HALF, "std": HALF} | fields)


def window(lower: float, upper: float) -> VolumePreprocessing:
    return VolumePreprocessing(
        depth=4, size=(64, 64), mean=HALF, std=HALF, window=IntensityRange(lower=lower, upper=upper)
    )


def mlp(slope: float) -> MlpHead:
    layers = (LinearLayer(in_features=8, out_features=4), LeakyReluLayer(negative_slope=slope))
    return MlpHead(layers=(*layers, LinearLayer(in_features=4, out_features=2)))


NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "a temperature that float32 holds as 0": ({"head": LinearHead(temperature=1e-300)}, "head.temperature"),
    "a denormal temperature": ({"head": LinearHead(temperature=1e-40)}, "head.temperature"),
    "a temperature that overflows what it divides": ({"head": CosineHead(dim=4, temperature=1e-7)}, "head.temperature"),
    "a denormal alpha": ({"modules": {"a.b": Factors(rank=1, alpha=1e-310)}}, r"modules\.a\.b\.alpha"),
    "a denormal scale": ({"modules": {"a.b": Factors(rank=8, alpha=2e-38)}}, r"modules\.a\.b, alpha / rank"),
    "a std of nearly 0": ({"preprocessing": rule(std=(0.5, 1e-30, 0.5))}, r"preprocessing\.std\.1"),
    "a huge std": ({"preprocessing": rule(std=(0.5, 0.5, 1e30))}, r"preprocessing\.std\.2"),
    "a mean beyond float32": ({"preprocessing": rule(mean=(1e300, 0, 0))}, r"preprocessing\.mean\.0"),
    "a huge mean": ({"preprocessing": rule(mean=(-1e30, 0, 0))}, r"preprocessing\.mean\.0"),
    "a denormal slope": ({"head": mlp(1e-320)}, r"head\.layers\.1\.negative_slope"),
    "a window beyond float32": ({"preprocessing": window(0, 1e300)}, r"preprocessing\.window\.upper"),
    "a window of no width in float32": ({"preprocessing": window(1e8, 1e8 + 1)}, "upper - lower in float32"),
    "a window whose width overflows": ({"preprocessing": window(-3e38, 3e38)}, "upper - lower in float32"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_number_that_float32_cannot_use_is_refused_by_its_place(draw_manifest: Any, case: str) -> None:
    fields, where = NUMBERS[case]

    with pytest.raises(AdapterInvalid, match=where) as caught:
        check_numbers(draw_manifest(["a", "b"]).model_copy(update=fields))

    assert caught.value.code == "manifest_invalid"


def test_usual_numbers_are_accepted(draw_manifest: Any) -> None:
    for fields in (
        {"head": LinearHead(temperature=0.01), "modules": {"a": Factors(rank=256, alpha=-1e6)}},
        {"head": mlp(0.0), "modules": {"a": Factors(rank=4, alpha=0)}},
        {"preprocessing": rule(mean=(0.485, 0, -2.1), std=(0.229, 1, 255))},
        {"preprocessing": window(-1024, 3071)},
    ):
        check_numbers(draw_manifest(["a", "b"]).model_copy(update=fields))


TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "a label with CSI": ({"labels": ("a", "b\x9b31m")}, r"labels\.1: found U\+009B"),
    "a label with an override": ({"labels": ("a\u202eb", "c")}, r"labels\.0: found U\+202E"),
    "a title with an override": ({"titles": {"a": "a\u202eb"}}, r"titles\.a: found U\+202E"),
    "a label with a line": ({"labels": ("a\u2028b", "c")}, r"labels\.0: found U\+2028"),
    "an author": ({"training": {"author": "a\u200bb"}}, r"training\.author: found U\+200B"),
    "a nested list": ({"training": {"notes": [{"by": "\ue000"}]}}, r"training\.notes\.0\.by: found U\+E000"),
    "a key": ({"training": {"a\u202e": 1}}, r"training\.\(a key\): found U\+202E"),
    "a description": ({"description": "a\x1b[2J"}, r"description: found U\+001B"),
    "a method": ({"method": "lo\u200bra"}, r"method: found U\+200B"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_with_a_hidden_character_is_refused_by_its_place(draw_manifest: Any, case: str) -> None:
    fields, message = TEXTS[case]

    with pytest.raises(AdapterInvalid, match=message) as caught:
        check_texts(draw_manifest(["a", "b"]).model_copy(update=fields))

    assert caught.value.code == "manifest_invalid"
    assert str(caught.value).isprintable()


def test_notes_may_have_several_lines_in_any_script(draw_manifest: Any) -> None:
    check_texts(
        draw_manifest(["سلول آلوده می‌شود", "ශ්‍රී"]).model_copy(
            update={"description": "One.\nTwo:\tthree", "training": {"intended_use": "研究\r\nのみ"}}
        )
    )
