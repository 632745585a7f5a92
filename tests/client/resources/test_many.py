"""Many images: each has its outcome, and no image stops the others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import Client, ImageInput, ImageTruncated, InvalidInput


def test_predict_many_continues_after_a_broken_image_and_keeps_the_order(server: Any, tmp_path: Path) -> None:
    inputs: list[ImageInput] = [b"one", b"bad", tmp_path / "none.png", b"two"]
    told: list[tuple[int, int | None]] = []
    with Client(server.url) as client:
        outcomes = list(
            client.predict_many(inputs, adapter="malaria", concurrency=2, progress=lambda *n: told.append(n))
        )
    assert [outcome.input for outcome in outcomes] == inputs
    assert [o.prediction.top.label if o.prediction else None for o in outcomes] == ["one", None, None, "two"]
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ImageTruncated, InvalidInput, type(None)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_predict_many_takes_folders_patterns_and_generators(server: Any, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.txt"):
        (tmp_path / name).write_bytes(name.encode())
    with Client(server.url) as client:

        def labels(inputs: Any, **options: Any) -> list[str]:
            outcomes = client.predict_many(inputs, "malaria", **options)
            return [outcome.prediction.top.label for outcome in outcomes if outcome.prediction]

        assert labels(tmp_path) == ["a.png", "b.jpg"]
        assert labels(f"{tmp_path}/*.txt") == ["c.txt"]
        assert labels((text.encode() for text in "xyz"), ordered=False, progress=True).sort() is None


def test_predict_many_gives_one_outcome_for_each_adapter_from_one_request(server: Any) -> None:
    with Client(server.url) as client:
        outcomes = list(client.predict_many([b"cell", b"bad"], ["malaria", "smoking"], concurrency=1))
    assert [(o.input, o.adapter, o.error is None) for o in outcomes] == [
        (b"cell", "malaria", True),
        (b"cell", "smoking", True),
        (b"bad", "malaria", False),
        (b"bad", "smoking", False),
    ]
    assert len(server.images) == 2


def test_predict_many_refuses_impossible_arguments_at_once() -> None:
    with Client() as client:
        for wrong in (b"one image", io.BytesIO(b"one image")):
            with pytest.raises(InvalidInput, match="list"):
                client.predict_many(wrong, "malaria")  # type: ignore[arg-type]  # what an untyped caller passes
        with pytest.raises(InvalidInput, match="concurrency"):
            client.predict_many([], "malaria", concurrency=0)
        with pytest.raises(InvalidInput, match="adapter"):
            client.predict_many([], "NO")
        assert list(client.predict_many([], "malaria")) == []


def test_a_loop_that_is_left_early_sends_only_a_little_more(server: Any) -> None:
    with Client(server.url) as client:
        for outcome in client.predict_many((b"%d" % n for n in range(1000)), "malaria", concurrency=2):
            assert outcome.prediction
            break
    assert len(server.images) <= 4
