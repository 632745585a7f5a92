"""Names in old code pages are read as the words that they were written as, or the right reading is stated too."""

# ruff: noqa: RUF001 - letters of other scripts look like those of ASCII

from __future__ import annotations

import itertools
import random

import pytest

from lensmount_adapters.zips.code_pages import CODE_PAGES, guess_code_page

RIGHT = {
    "gbk": "正常 感染|良性 恶性|疟疾 阴性 猫 狗|肺炎 正常|红细胞 白细胞"
    "|训练 测试|糖尿病 对照|裂缝 无裂缝|轻度 中度 重度|腺瘤 息肉",
    "cp932": "正常 感染|表面 ソース|表 十|がん せいじょう|悪性腫瘍 良性|ネコ イヌ"
    "|肺炎 健康|ｶﾞﾝ ｾｲｼﾞｮｳ|ひび割れ なし|予測 噂|傷あり 傷なし",
    "big5": "正常 感染|癌症 健康|良性 惡性|許功蓋 育|糖尿病 對照組|輕度 重度|塑膠 玻璃",
    "cp949": "고양이 개 강아지|정상 감염|암 정상|양성 음성|개 말|폐렴 정상"
    "|종양 없음|불량 양품|사과 배|찢어짐 긁힘|적혈구 백혈구|봄 여름",
    "gb18030": "癌㐀 良|𠀀字 正",
    "cp866": "Здоровый больной|кошка собака|да нет|клетки норма|трещина|Бабочка Пчела|лёгкая тяжёлая",
    "cp1251": "Здоровый больной|да нет|НОРМА РАК|здоровий хворий|їжак білка|опухоль контроль",
    "koi8-r": "здоровый больной|кошка собака|да нет|Норма Опухоль|трещина",
    "cp437": "Müller é|größe klein|señal|Ångström|bösartig|forêt",
    "cp850": "Pulmão coração|maçã pêra|São João|blåbær jordbær|lesão",
    "cp1252": "Müller gesund|Pulmão coração|été hiver|ÄRZTE|maçã|naïve|Gefäß",
    "cp1250": "żółty czerwony|łagodny złośliwy|dobrý špatný",
    "cp852": "żółty czerwony|łagodny złośliwy|příznak zdraví|motýľ včela",
    "cp737": "γάτα σκύλος|καρκίνος υγιές",
    "cp1253": "γάτα σκύλος|μήλο αχλάδι",
    "cp857": "sağlıklı hasta|kırmızı yeşil",
    "cp1254": "sağlıklı hasta|çatlak sağlam|hücre değil",
    "cp862": "חתול כלב|סרטן בריא",
    "cp1255": "חתול כלב|תקין חולה|שפיר ממאיר",
    "cp1256": "قطة كلب|سليم مصاب",
    "cp720": "سرطان سليم",
    "cp874": "ปกติ ติดเชื้อ|มะเร็ง ปกติ|ดี เสีย",
    "cp1257": "šuo katė|obuolys kriaušė",
    "euc_jp": "正常 異常|ネコ イヌ",
    "mac-roman": "été hiver|größe klein",
}
STATED = [  # words of which another code page makes other words that are as likely
    ("gbk", ["蝴蝶", "蜜蜂"]),
    ("big5", ["蝴蝶", "蜜蜂"]),
    ("cp866", ["НОРМА", "РАК"]),
    ("cp1250", ["zdravý", "nemocný"]),
    ("cp1250", ["mačka"]),
    ("cp852", ["kočka"]),
    ("cp852", ["körte", "szőlő"]),
    ("iso8859-2", ["kočka"]),
    ("cp874", ["แมว", "หมา"]),
    ("cp1257", ["ābols"]),
    ("mac-roman", ["lesão", "não"]),
]


@pytest.mark.parametrize("code_page", RIGHT)
def test_a_name_is_read_as_the_word_that_was_written(code_page: str) -> None:
    for words in RIGHT[code_page].split("|"):
        names = [f"{word}/{number}.png" for number, word in enumerate(words.split())]
        stored = [name.encode(code_page) for name in names]

        guess = guess_code_page([name for name in stored if not name.isascii()])

        assert [name.decode(guess.code_page) for name in stored] == names
        assert guess.wrong < 0.4


@pytest.mark.parametrize(("code_page", "words"), STATED)
def test_a_reading_that_is_nearly_as_likely_is_stated(code_page: str, words: list[str]) -> None:
    stored = [f"{word}/1.png".encode(code_page) for word in words]

    guess = guess_code_page(stored)

    read = [[name.decode(page) for name in stored] for page in (guess.code_page, *guess.others)]
    assert [f"{word}/1.png" for word in words] in read
    assert len({tuple(names) for names in read}) == len(read)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("cp866", "инфекция"), ("cp1252", "größe")),
        (("cp1251", "Здоровый"), ("cp866", "больной")),
        (("gbk", "正常细胞"), ("cp949", "고양이")),
        (("cp437", "größe"), ("cp866", "кошка")),
        (("cp852", "złośliwy"), ("cp1250", "łagodny")),
        (("cp932", "ソース"), ("cp1251", "норма")),
    ],
)
def test_words_of_two_code_pages_in_one_zip_are_said_to_be_so(one: tuple[str, str], other: tuple[str, str]) -> None:
    guess = guess_code_page([f"{word}/1.png".encode(code_page) for code_page, word in (one, other)])

    read = {word.encode(page).decode(guess.code_page, "replace") == word for page, word in (one, other)}
    assert False in read
    assert guess.odd
    assert all(part.decode(page) != part.decode(guess.code_page) for part, page in guess.odd)


def test_nine_of_ten_zips_that_no_code_page_reads_whole_are_said_to_mix_them() -> None:
    """Two classes of one page and two of another, for every fifth pair of pages."""
    rng, wrong, unsaid = random.Random(0), 0, 0
    for one, other in list(itertools.combinations(RIGHT, 2))[::5]:
        words = [
            (page, word)
            for page in (one, other)
            for word in rng.choice(RIGHT[page].split("|")).split()
            if not word.isascii()
        ]
        guess = guess_code_page([f"{word}/1.png".encode(page) for page, word in words])
        if any(word.encode(page).decode(guess.code_page, "replace") != word for page, word in words):
            wrong += 1
            unsaid += not guess.odd

    assert wrong > 50
    assert unsaid <= wrong / 8


def test_words_of_one_code_page_are_rarely_said_to_be_of_two() -> None:
    zips = [
        [f"{word}/1.png".encode(code_page) for word in words.split() if not word.isascii()]
        for code_page, lists in RIGHT.items()
        for words in [*lists.split("|"), lists.replace("|", " ")]
    ]

    said = [names for names in zips if guess_code_page(names).odd]

    assert len(said) <= 2  # kana of half width
    assert len(zips) > 130


def test_bytes_of_no_language_are_said_to_be_doubtful() -> None:
    assert guess_code_page(["░▒▓█▄▀■".encode("cp437")]).wrong > 0.25


def test_a_zip_of_100_000_names_is_guessed_from_the_first_ones() -> None:
    names = [f"정상/{number}.png".encode("cp949") for number in range(100_000)]

    assert guess_code_page(names).code_page == "cp949"


def test_every_code_page_has_a_title_of_its_own() -> None:
    assert len({page.title for page in CODE_PAGES.values()}) == len(CODE_PAGES)
