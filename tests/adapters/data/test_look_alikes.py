"""Class names that look alike are named with both code points, by train, push and the stored dataset."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest
from tests.layouts import images
from tests.test_layouts import draw

from lensmount_adapters.data.dataset import list_folder, read_folder
from lensmount_adapters.data.dataset_archive import write_dataset_archive
from lensmount_adapters.data.look_alikes import look_alikes
from lensmount_client._files.dataset_zip import open_archive


def named(name: str) -> str:
    return unicodedata.lookup(name)


ALIKE = {
    "Cyrillic a": ("cats", f"c{named('CYRILLIC SMALL LETTER A')}ts", "U+0061", "U+0430"),
    "Cyrillic T at the beginning": ("Tumor", f"{named('CYRILLIC CAPITAL LETTER TE')}umor", "U+0054", "U+0422"),
    "another case too": ("cats", f"C{named('CYRILLIC SMALL LETTER A')}ts", "U+0063", "U+0043"),
    "Greek o": ("normal", f"n{named('GREEK SMALL LETTER OMICRON')}rmal", "U+006F", "U+03BF"),
    "Armenian o": ("normal", f"n{named('ARMENIAN SMALL LETTER OH')}rmal", "U+006F", "U+0585"),
    "two scripts without Latin": (
        named("GREEK SMALL LETTER OMICRON") * 2,
        named("CYRILLIC SMALL LETTER O") * 2,
        "U+03BF",
        "U+043E",
    ),
    "full width": ("cat", "".join(chr(ord(letter) + 0xFEE0) for letter in "cat"), "U+0063", "U+FF43"),
    "half width": (named("KATAKANA LETTER KA"), named("HALFWIDTH KATAKANA LETTER KA"), "U+30AB", "U+FF76"),
    "a ligature": ("fine", f"{named('LATIN SMALL LIGATURE FI')}ne", "U+0066", "U+FB01"),
    "a sign": ("40x", f"40{named('MULTIPLICATION SIGN')}", "U+0078", "U+00D7"),
    "a dash": ("grade-1", f"grade{named('EN DASH')}1", "U+002D", "U+2013"),
    "micro and mu": (f"1{named('MICRO SIGN')}m", f"1{named('GREEK SMALL LETTER MU')}m", "U+00B5", "U+03BC"),
    "an accent": (named("LATIN SMALL LETTER E WITH DIAERESIS"), named("CYRILLIC SMALL LETTER IO"), "U+00EB", "U+0451"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_names_that_look_alike_are_named_with_both_code_points(name: str) -> None:
    first, second, one, other = ALIKE[name]

    (found,) = look_alikes([first, "dog", second])

    assert all(repr(text) in found for text in (first, second))
    assert one in found
    assert other in found
    assert unicodedata.name(chr(int(other[2:], 16))) in found


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog", "bird"],
        ["0", "O", "o1", "ol", "1", "I", "l"],  # ASCII alone
        ["рак", "норма", "киста"],
        ["猫", "犬", "描"],
        ["é", "e", "è"],
        ["CD4", "CD8", "CD44"],
    ],
)
def test_other_names_are_not_named(labels: list[str]) -> None:
    assert look_alikes(labels) == []


def test_train_push_and_the_stored_dataset_say_the_same_and_following_the_advice_ends_it(tmp_path: Path) -> None:
    cyrillic = ALIKE["Cyrillic a"][1]
    root = draw(tmp_path / "d", images("cats", cyrillic, "dogs"))

    (said,) = list_folder(root).notes

    assert said.endswith("Fix: if they are one class, spell them alike")
    with open_archive(root) as archive:
        assert archive.notes == (said,)
    with (tmp_path / "stored.zip").open("wb") as file:
        assert write_dataset_archive(list_folder(root), file).report["notes"] == [said]
    assert said in read_folder(tmp_path / "stored.zip").notes  # as a job reads it

    for number, path in enumerate(sorted((root / cyrillic).iterdir())):
        path.rename(root / "cats" / f"moved_{number}.png")
    (root / cyrillic).rmdir()
    assert list_folder(root).notes == ()
    assert write_dataset_archive(list_folder(root), io.BytesIO()).classes == {"cats": 4, "dogs": 2}
