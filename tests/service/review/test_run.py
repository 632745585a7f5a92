"""The process of a review: it answers on stdout in lines of JSON, whatever is wrong with its order."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lensmount_service.review.run import main

DrawImages = Callable[..., dict[str, bytes]]
Zip = Callable[..., bytes]
LinesOf = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def lines_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> LinesOf:
    """What the process prints for an order; test_reviews.py runs it as a process."""
    monkeypatch.setattr(os, "nice", lambda by: by)

    def lines(order: dict[str, Any]) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order)))
        main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return lines


def order(archive: Path, **changes: Any) -> dict[str, Any]:
    return {
        "archive": str(archive),
        "backbone": "test_efficientnet",
        "weights": "random:0",
        "max_image_bytes": 2**20,
        "max_pixels": 2**20,
        "group_regex": None,
        **changes,
    }


def test_an_archive_is_reviewed_with_the_named_backbone(
    tmp_path: Path, images: DrawImages, zipped: Zip, lines_of: LinesOf
) -> None:
    (tmp_path / "cells.zip").write_bytes(zipped(images(a=6, b=6)))

    *progress, last = lines_of(order(tmp_path / "cells.zip"))

    assert (last["review"]["images"], last["review"]["checked"]) == (12, 12)
    assert last["review"]["backbone"]["name"] == "test_efficientnet"
    assert {line["phase"] for line in progress} == {"reading", "features"}
    assert progress[-1]["done"] == progress[-1]["total"] == 12


def test_an_expression_finds_the_groups_that_the_archive_does_not_state(
    tmp_path: Path, images: DrawImages, zipped: Zip, lines_of: LinesOf
) -> None:
    (tmp_path / "cells.zip").write_bytes(zipped(images(a=6, b=6)))

    last = lines_of(order(tmp_path / "cells.zip", group_regex="^([ab])/"))[-1]

    assert (last["review"]["images"], last["review"]["checked"]) == (12, 0)  # each class is one group
    assert "cannot be checked" in last["review"]["notes"][0]


def test_an_archive_that_is_gone_and_a_backbone_that_is_none_are_said(
    tmp_path: Path, images: DrawImages, zipped: Zip, lines_of: LinesOf
) -> None:
    (tmp_path / "cells.zip").write_bytes(zipped(images(a=2, b=2)))

    assert "Fix: correct the path" in lines_of(order(tmp_path / "gone.zip"))[-1]["error"]
    assert "expected one such as" in lines_of(order(tmp_path / "cells.zip", backbone="resnett"))[-1]["error"]
