"""Labels of held-out images that the new adapter doubts are named in a note."""

from __future__ import annotations

import torch

from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.quality.label_notes import notes_about_labels

LABELS = ("cat", "dog")


def part_of(name: str, wrong: tuple[int, ...] = (), count: int = 20) -> ScoredPart:
    """Images that are scored 0.95 for their class, half of each; the label of those in `wrong` is the other one."""
    seen = torch.arange(count) % 2
    scores = torch.where(torch.nn.functional.one_hot(seen, 2) == 1, 0.95, 0.05)
    truth = seen.clone()
    truth[list(wrong)] = 1 - truth[list(wrong)]
    return ScoredPart(tuple(f"{name}/{i}.png" for i in range(count)), truth, scores, measure(truth, scores, LABELS))


def test_a_wrong_label_is_named_with_the_likelier_one() -> None:
    (note,) = notes_about_labels({"validation": part_of("v"), "test": part_of("t", wrong=(4,))}, LABELS)

    assert note.startswith("1 label(s) of the 40 held-out images")
    assert "t/4.png ('dog', likelier 'cat')" in note
    assert "lensmount review" in note


def test_right_labels_few_images_and_no_part_give_no_note() -> None:
    assert notes_about_labels({"test": part_of("t")}, LABELS) == ()
    assert notes_about_labels({"test": part_of("t", wrong=(0,), count=10)}, LABELS) == ()
    assert notes_about_labels({}, LABELS) == ()
