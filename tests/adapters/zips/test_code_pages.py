"""Names in old code pages are read as the words that they were written as."""

from __future__ import annotations

import pytest

from lensmount_adapters.zips.code_pages import CODE_PAGES, NAMES, guess_code_page

WRITTEN = [
    ("gbk", ["正常/000.png", "感染/001.png"]),
    ("gbk", ["良性/1.png", "恶性/2.png"]),
    ("gbk", ["疟疾/1.png", "阴性/1.png", "猫/1.png", "狗/1.png"]),
    ("cp932", ["正常/1.png", "感染/2.png"]),
    ("cp932", ["表面/1.png", "ソース/2.png"]),  # the second byte of the first letters is a backslash
    ("cp932", ["がん/1.png", "せいじょう/2.png"]),
    ("cp932", ["悪性腫瘍/1.png", "良性/2.png"]),
    ("big5", ["正常/1.png", "感染/2.png"]),
    ("big5", ["癌症/1.png", "健康/2.png"]),
    ("cp949", ["고양이/1.png", "개/2.png", "강아지/3.png"]),
    ("cp866", ["Здоровый/1.png", "больной/2.png"]),
    ("cp866", ["кошка/1.png", "собака/1.png"]),
    ("cp1251", ["Здоровый/1.png", "больной/2.png"]),
    ("cp437", ["Müller/1.png", "é.png"]),
    ("cp437", ["größe/1.png", "klein/1.png"]),
    ("cp437", ["señal/1.png"]),
    ("cp850", ["Pulmão/1.png", "coração/2.png"]),
    ("cp1252", ["Müller/1.png", "gesund/2.png"]),
    ("cp1252", ["Pulmão/1.png", "coração/2.png"]),
    ("cp1252", ["été/1.png", "hiver/2.png"]),
    ("cp1252", ["ÄRZTE/1.png"]),
]


@pytest.mark.parametrize(("code_page", "names"), WRITTEN)
def test_a_name_is_read_as_the_word_that_was_written(code_page: str, names: list[str]) -> None:
    stored = [name.encode(code_page) for name in names]

    guess = guess_code_page(stored)

    assert [name.decode(guess.code_page) for name in stored] == names
    assert guess.wrong < 0.2


def test_a_few_korean_syllables_are_also_common_chinese_and_the_guess_says_so() -> None:
    guess = guess_code_page(["정상/1.png".encode("cp949"), "감염/2.png".encode("cp949")])

    assert guess.code_page == "gbk"
    assert "cp949" in guess.others


def test_bytes_of_no_language_are_read_as_the_code_page_of_the_format() -> None:
    guess = guess_code_page([b"\xb0"])

    assert guess.code_page == "cp437"
    assert guess.wrong == 1


def test_every_code_page_has_a_name() -> None:
    assert set(NAMES) == set(CODE_PAGES)
