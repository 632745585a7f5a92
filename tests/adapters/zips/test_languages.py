"""The model of languages: common letters are likelier than rare ones, and odd words are unlikely."""

# ruff: noqa: RUF001 - letters of other scripts look like those of ASCII

from __future__ import annotations

import pytest

from lensmount_adapters.zips.languages import ALPHABETS, LARGE, RARE, log_likelihood


@pytest.mark.parametrize(
    ("likelier", "than", "language"),
    [
        ("нота", "нъфщ", "cyrillic"),
        ("Нота", "нОТа", "cyrillic"),
        ("нота", "NOТА", "cyrillic"),
        ("große", "grôÿe", "western"),
        ("žluť", "žluŕ", "central"),
        ("正常", "沥惑", "simplified Chinese"),
        ("沥惑", "沥囧", "simplified Chinese"),
        ("정상", "뉐삇", "Korean"),
        ("がん", "僩癡", "Japanese"),
        ("健康", "獺祭", "traditional Chinese"),
    ],
)
def test_a_word_is_likelier_than_an_odd_one(likelier: str, than: str, language: str) -> None:
    assert log_likelihood(likelier, language)[0] > log_likelihood(than, language)[0]


@pytest.mark.parametrize("language", [*ALPHABETS, *LARGE])
def test_lines_of_a_box_are_rare_in_every_language(language: str) -> None:
    value, rare = log_likelihood("╕╨ 3.", language)

    assert rare == 2
    assert value <= 2 * RARE


@pytest.mark.parametrize("language", ALPHABETS)
def test_each_alphabet_has_each_letter_once(language: str) -> None:
    assert len(set(ALPHABETS[language])) == len(ALPHABETS[language])
