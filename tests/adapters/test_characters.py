"""What is shown is what it seems to be: hidden characters are refused, and every script is accepted."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from lensmount_adapters.characters import refused_character

LANGUAGES = {
    "Amharic": "የታመመ ሕዋስ",
    "Arabic": "خلية مُصابة ١٢",
    "Armenian": "Վարակված բջիջ",
    "Bengali": "সংক্রমিত কোষ",
    "Burmese": "ကူးစက်ခံဆဲလ်",
    "Cherokee": "ᎤᏢᎩ ᎨᏒ",
    "Chinese": "受感染的细胞（恶性）",  # noqa: RUF001
    "Czech": "Příliš žluťoučký kůň",
    "Dhivehi": "ބަލިޖެހިފައިވާ",
    "Emoji": "🦠 👩‍🔬 ❤️ 🇩🇪 👍🏽",
    "English": "cell, infected (stage II) – 50 % “sure”",  # noqa: RUF001
    "French": "cellule infectée à l’œil",  # noqa: RUF001
    "Georgian": "ინფიცირებული უჯრედი",
    "German": "befallene Zelle, Größe ß",
    "Greek": "μολυσμένο κύτταρο",
    "Gujarati": "ચેપગ્રસ્ત કોષ",
    "Hebrew": "תָּא נָגוּעַ",
    "Hindi": "संक्रमित कोशिका क्‍ष",
    "Inuktitut": "ᖃᓂᒪᔪᖅ",
    "Japanese": "感染細胞 がん ヴァ ｶﾞ",
    "Kannada": "ಸೋಂಕಿತ ಕೋಶ",
    "Khmer": "កោសិកាឆ្លង",
    "Korean": "감염된 세포 한",
    "Lao": "ເຊວຕິດເຊື້ອ",
    "Malayalam": "രോഗബാധിത കോശം ന്‍",
    "Mathematics": "x² ≤ 3 µm, ∑ α·β ⇒ ½",  # noqa: RUF001
    "Mongolian": "ᠬᠠᠯᠳᠪᠤᠷᠢ",
    "Persian": "سلول آلوده می‌شود",
    "Polish": "zażółć gęślą jaźń",
    "Punjabi": "ਸੰਕਰਮਿਤ ਸੈੱਲ",
    "Russian": "заражённая клетка",
    "Sinhala": "ආසාදිත සෛලය ශ්‍රී",
    "Syriac": "ܩܠܝܐ ܟܪܝܗܐ",
    "Tamil": "பாதிக்கப்பட்ட செல்",
    "Telugu": "సోకిన కణం",
    "Thai": "เซลล์ที่ติดเชื้อ",
    "Tibetan": "ནད་ཕོག་པའི་ཕྲ་ཕུང་།",
    "Turkish": "enfekte hücre, ığdır",  # noqa: RUF001
    "Urdu": "متاثرہ خلیہ",
    "Vietnamese": "tế bào bị nhiễm",
    "Yoruba": "ṣẹ́ẹ̀lì tó ní àrùn",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_of_every_script_is_accepted(language: str) -> None:
    for form in ("NFC", "NFD"):
        assert refused_character(unicodedata.normalize(form, LANGUAGES[language])) is None


REFUSED = {
    "NUL": "\0",
    "an escape": "\x1b[2J",
    "DEL": "\x7f",
    "CSI": "\x9b",
    "NEL": "\x85",
    "a line feed": "\n",
    "a line separator": "\u2028",
    "a paragraph separator": "\u2029",
    "an override": "\u202e",
    "an isolate": "\u2066",
    "a right-to-left mark": "\u200f",
    "an Arabic letter mark": "\u061c",
    "a zero-width space": "\u200b",
    "a soft hyphen": "\xad",
    "a byte order mark": "\ufeff",
    "a word joiner": "\u2060",
    "a tag": "\U000e0041",
    "a Hangul filler": "\u3164",
    "a lone surrogate": "\ud800",
    "private use": "\ue000",
    "private use of plane 16": "\U0010fffd",
    "noncharacters at the end of a plane": "\U0001ffff",
    "noncharacters in the middle": "\ufdd0",
    "a joiner between Latin letters": "\u200d",
    "an annotation": "\ufff9",
}


@pytest.mark.parametrize("what", REFUSED)
def test_hidden_characters_are_refused_by_their_code_point_wherever_they_stand(what: str) -> None:
    for text in (f"a{REFUSED[what]}b", f"{REFUSED[what]}b", f"a{REFUSED[what]}"):
        found = refused_character(text)

        assert found is not None
        assert f"U+{ord(REFUSED[what][0]):04X}, " in found
        assert found.isascii()
        assert found.isprintable()


def test_text_with_lines_has_line_feeds_and_tabs_and_no_other_controls() -> None:
    assert refused_character("one\r\n\ttwo", lines=True) is None
    assert refused_character("one\x0btwo", lines=True) == "U+000B, a control character"


def test_no_accepted_character_moves_a_cursor_or_is_invisible_by_unicodes_own_tables() -> None:
    """Of all characters, those of the categories for controls are accepted only where they are drawn."""
    accepted = [c for c in map(chr, range(sys.maxunicode + 1)) if refused_character(f"a{c}b") is None]

    assert {c for c in accepted if unicodedata.category(c) in ("Cc", "Cs", "Co", "Zl", "Zp")} == set()
    assert {unicodedata.bidirectional(c) for c in accepted}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    assert {unicodedata.name(c).split()[-1] for c in accepted if unicodedata.category(c) == "Cf"} <= {
        *("SIGN", "SANAH", "FOOTNOTE", "MARKER", "SAFHA", "SAMVAT", "ABOVE", "AYAH", "MARK", "BELOW"),
    }
