"""How likely a character is in names of one language: a small model for telling code pages apart.

The model knows each language's letters in the order of their frequency, and its most common syllables or characters.
Letters get geometric probabilities by rank. The common characters of a large script share its first half, and the
others that its standard puts first (GB 2312 level 1, Big5 level 1, JIS level 1, KS X 1001) share most of the rest.
Everything else (lines of a box, symbols, rare characters) gets `RARE`.
"""

# ruff: noqa: RUF001 - letters of other scripts look like those of ASCII

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from math import exp, log

RARE = log(1e-6)
_ASCII = log(0.03)
_FALL = 9.0  # ranks in which the probability of a letter falls by a factor of e
_ACCENTS = 0.12  # the share of all accented letters of a Latin alphabet
_ALL_CAPITALS, _ONE_CAPITAL, _MIXED_CASE = log(0.05), log(0.3), log(1e-3)
_MIXED_SCRIPTS, _ODD_LATIN, _ONE_LETTER = log(1e-3), log(1e-2), log(0.1)
_MOST_ACCENTS = 0.7  # of the letters of a Latin word

ALPHABETS = {
    "western": "éäöüáóñçãíèàêâß–åøæúîôõëï’ìòùûœýÿ°²“”",
    "central": "éáóöüíłčšžýęąśżěřäćúńźőůűăâîđťďňľţşô–„”",
    "turkish": "ışğüçöİâîû–’",
    "baltic": "šėžįąčęųūāēīļņķģõäöü–„”",
    "cyrillic": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґўјљњћђџ№–",
    "greek": "ατοιενρσκηπςυμλίόάγέδήωχθύβφώξζψϊϋΐΰ–",
    "hebrew": "יוהלרבתמאשנעםדקחפסכגטצןזךףץ–",
    "arabic": "اليمونرتبةعدسفهكقأحجشطصىخإذضزغءئثظآؤ،–",
    "thai": "านร่อกเง้มยัลวดทสิีตะปบคหแจพชขุ็ใไ์ผโูธณึืถซภศญฐษำฉฟฝๆฆ๊๋ฎฏฑฒฬฮฤ",
}
_HAN = (
    "一不人有中上大国國地到以时時要出可生能子得下自年发發后後作里用道行所家种事成方多去法学學同现現动動面看定天分进進"
    "小部其主样樣理心本前开開只日二三四五六七八九十百千万月火水木金土左右东東西南北内外高低长長短新旧古老男女正常异異感染良"
    "恶惡性阳陽阴陰癌症肿腫瘤瘍健康病肺炎肝胃肠腸脑腦骨眼皮肤膚血红紅白细細胞菌虫疟瘧疾组組织織结結核节節囊斑痣黑色猫貓犬狗"
    "鸟鳥鱼魚马馬牛羊鸡雞猪豬鼠兔花草树樹叶葉果苹蘋香蕉梨桃米麦麥玉车車船飞飛机機路桥橋房屋合格缺陷品好坏壞划痕裂纹紋孔污点點"
    "线線测測试試训訓练練验驗证證数數据據集图圖像类類别別标標签籤第号號级級期患者检檢查背照片文件夹夾建复複副资資料切荧螢光显顯"
    "微镜鏡放射扫掃描超声聲波器官表原始清晰模糊完整损損伤傷晴雨雪夜"
)
_HANGUL = (
    "이다에의는로하을가고지서한은기으년대사시를리도인스일정상감염암양성음종세포폐렴불량품과배흑색모반강아개말자전나무라부비수어"
    "여원위유장제조주중진차초치타트파평표피학합해호화회후구국그금김남내녀노단당동들등마만면명문물미민바방백번법보본분산생선소속"
    "신실심안야약업연영오와외용우운월육임작재적점직질집청체출카크테토통투특판편프필험현형환활없있새꽃밤낮눈비병환군건균열결함"
)


@cache
def _letters(alphabet: str) -> Mapping[str, float]:
    """The logarithm of the probability of each letter."""
    letters = list(dict.fromkeys(ALPHABETS[alphabet]))
    weights = [exp(-rank / _FALL) for rank in range(len(letters))]
    share = (_ACCENTS if is_latin(alphabet) else 1) / sum(weights)
    return {letter: log(share * weight) for letter, weight in zip(letters, weights, strict=True)}


def is_latin(language: str) -> bool:
    return language in ("western", "central", "turkish", "baltic")


def log_likelihood(text: str, language: str) -> tuple[float, int]:
    """The logarithm of the probability of `text` in `language`, and how many of its characters outside ASCII are rare.

    `language` is one of ALPHABETS or of LARGE. Digits, spaces and punctuation of ASCII say nothing.
    """
    total, rare = 0.0, 0
    for word in _words(text):
        total += _about_the_word(word, language)
        for character in word:
            if character.isascii():
                total += _ASCII if character.isalpha() else 0
                continue
            value = _of_one(character, language)
            total += value
            rare += value <= RARE
    return total, rare


def _words(text: str) -> list[str]:
    """The runs of letters, and each other character by itself."""
    words: list[str] = []
    inside = False
    for character in text:
        is_letter = (
            character.isalpha() or unicodedata.combining(character) > 0 or unicodedata.category(character) == "Mn"
        )
        if inside and is_letter:
            words[-1] += character
        else:
            words.append(character)
        inside = is_letter
    return words


def _about_the_word(word: str, language: str) -> float:
    """How likely its capitals are, its mixture of ASCII with other letters, and its number of accents."""
    foreign = sum(not character.isascii() for character in word)
    if not foreign:
        return 0.0
    value = 0.0
    if word.islower() or word.upper() == word.lower():
        pass
    elif word.isupper() and len(word) > 1:
        value += _ALL_CAPITALS
    elif any(small.islower() and large.isupper() for small, large in pairwise(word)):
        value += _MIXED_CASE
    else:
        value += _ONE_CAPITAL
    if not is_latin(language) and foreign < len(word):
        value += _MIXED_SCRIPTS
    if language in ALPHABETS and len(word) == 1 and word.isalpha():
        value += _ONE_LETTER
    if is_latin(language) and len(word) > 1 and foreign > _MOST_ACCENTS * len(word):
        value += _ODD_LATIN
    return value


def _of_one(character: str, language: str) -> float:
    if language in LARGE:
        return LARGE[language](character)
    letters = _letters(language)
    return letters.get(character, letters.get(character.lower(), RARE))


def _lead(character: str, code_page: str) -> tuple[int, int]:
    """The two bytes of a character in its national standard; (0, 0) if it has not two."""
    try:
        raw = character.encode(code_page)
    except UnicodeEncodeError:
        return 0, 0
    return (raw[0], raw[1]) if len(raw) == 2 else (0, 0)


def _shared(common: int, others: int, first: float = 0.5, rest: float = 0.4) -> tuple[float, float]:
    return log(first / common), log(rest / others)


_COMMON_HAN, _COMMON_HANGUL = frozenset(_HAN), frozenset(_HANGUL)


def _simplified(character: str) -> float:
    lead, trail = _lead(character, "gbk")
    common, known = _shared(len(_COMMON_HAN), 3755)
    if not (0xB0 <= lead <= 0xD7 and trail >= 0xA1):
        return RARE
    return common if character in _COMMON_HAN else known


def _traditional(character: str) -> float:
    common, known = _shared(len(_COMMON_HAN), 5401)
    if not 0xA4 <= _lead(character, "big5")[0] <= 0xC6:
        return RARE
    return common if character in _COMMON_HAN else known


def _japanese(character: str) -> float:
    if "ぁ" <= character <= "ヶ" or character == "ー":
        return log(0.5 / 170)
    if "ｦ" <= character <= "ﾟ":
        return log(0.01 / 60)
    common, known = _shared(len(_COMMON_HAN), 2965, 0.3, 0.15)
    if not 0x88 <= _lead(character, "cp932")[0] <= 0x97:
        return RARE
    return common if character in _COMMON_HAN else known


def _korean(character: str) -> float:
    common, known = _shared(len(_COMMON_HANGUL), 2350, 0.6, 0.35)
    if not ("가" <= character <= "힣" and _lead(character, "euc_kr")[0]):
        return RARE
    return common if character in _COMMON_HANGUL else known


LARGE: Mapping[str, Callable[[str], float]] = {
    "simplified Chinese": cache(_simplified),
    "traditional Chinese": cache(_traditional),
    "Japanese": cache(_japanese),
    "Korean": cache(_korean),
}
