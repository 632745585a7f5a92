"""What people agree on: one label for each image by majority, and no label where they are divided."""

from __future__ import annotations

from lensmount_service.pools.rows import PoolImage, PoolLabel, decided


def said(*labels: tuple[str, str, str]) -> list[PoolLabel]:
    return [PoolLabel(number, digest, label, who, 0.0) for number, (digest, who, label) in enumerate(labels)]


def test_the_label_of_most_people_counts() -> None:
    agreed = decided(
        said(("x", "reader1", "cat"), ("x", "reader2", "dog"), ("x", "reader3", "dog"), ("y", "reader1", "cat"))
    )

    assert (dict(agreed.labels), agreed.disputed) == ({"x": "dog", "y": "cat"}, ())


def test_a_person_has_one_vote_and_it_is_their_latest() -> None:
    agreed = decided(
        said(("x", "reader1", "cat"), ("x", "reader1", "cat"), ("x", "reader2", "dog"), ("x", "reader1", "dog"))
    )

    assert dict(agreed.labels) == {"x": "dog"}


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = said(("x", "reader1", "cat"), ("x", "reader1", "dog"))

    assert decided(rows[::-1]).labels == {"x": "dog"}


def test_a_tie_of_the_first_two_is_disputed() -> None:
    agreed = decided(said(("x", "reader1", "cat"), ("x", "reader2", "dog"), ("y", "reader1", "cat")))

    assert (dict(agreed.labels), agreed.disputed) == ({"y": "cat"}, ("x",))


def test_an_image_has_a_path_of_its_own_in_a_version() -> None:
    image = PoolImage(f"sha256:{'a' * 64}", ".jpg", 1, None, 0.0, "reader1")

    assert image.path == f"labelled/{'a' * 64}.jpg"
