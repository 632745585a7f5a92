"""Predictions as short text, as rows, and as HTML for notebooks."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import pickle
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lensmount_client import (
    AdapterId,
    AsyncClient,
    Backbone,
    Client,
    Explanation,
    InvalidInput,
    NoLabel,
    Prediction,
    PredictionError,
    Predictions,
    Score,
    Trust,
    Unfamiliarity,
)
from lensmount_client._resources.many import OUTCOME_RECORD
from lensmount_client._types.predictions import RECORD

DIGEST, PRINT = "sha256:" + "0" * 64, "sha256:" + "f" * 64
ADAPTER, BACKBONE = AdapterId("cells", 3, DIGEST), Backbone("tiny", PRINT)
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def predicted(label: str = "parasitized", trust: Trust | None = None, **changes: Any) -> Prediction:
    scores = (Score(label, 0.97), Score("other", 0.03))
    return dataclasses.replace(Prediction(scores, ADAPTER, BACKBONE, "r-1", {}, trust), **changes)


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_answer_is_short_as_text() -> None:
    assert str(predicted()) == "parasitized 97.0% (cells@3)"
    unsure = Trust("uncertain", 0.97, ("a", "b"), Unfamiliarity(12.5, False), None)
    assert str(predicted(trust=unsure)) == "parasitized 97.0% (cells@3), not sure: a or b"
    assert str(predicted(predictions=(), abstained="it is not sure")) == "no label (cells@3): it is not sure"
    failed = predicted(predictions=(), error=PredictionError(503, "adapter_quarantined", "no"))
    assert str(failed) == "no answer (cells@3): adapter_quarantined"
    assert str(Predictions([predicted(), failed])) == f"{predicted()}; {failed}"


def test_a_prediction_without_a_label_is_an_error_of_the_sdk_and_a_lookup_error() -> None:
    with pytest.raises(NoLabel) as caught:
        _ = predicted(predictions=(), abstained="it is not sure").top
    error = caught.value
    assert isinstance(error, LookupError)
    assert (error.code, error.request_id) == ("no_label", None)
    assert error.detail.startswith("found no label: it is not sure. Fix:")


def test_records_are_flat_and_can_be_written_as_json() -> None:
    trust = Trust("uncertain", 0.97, ("a", "b"), Unfamiliarity(12.5, False), None)
    (record,) = Predictions([predicted(trust=trust)]).to_records()
    assert tuple(record) == RECORD
    assert json.loads(json.dumps(record)) == {
        "adapter": "cells",
        "label": "parasitized",
        "score": 0.97,
        "scores": {"parasitized": 0.97, "other": 0.03},
        "decision": "uncertain",
        "set": ["a", "b"],
        "percentile": 12.5,
        "abstained": None,
        "error": None,
        "version": 3,
        "digest": DIGEST,
        "fingerprint": PRINT,
        "request_id": "r-1",
    }


def test_many_images_become_a_table_with_their_errors(server: Any, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("bad" if name == "b.png" else name)
    with Client(server.url) as client:
        table = client.predict_many(tmp_path, "malaria").to_pandas()
        assert tuple(table.columns) == OUTCOME_RECORD
        assert list(table["label"].fillna("")) == ["a.png", ""]
        assert list(table["error"].fillna("")) == ["", "image_truncated"]
        assert list(table["detail"].fillna("")) == ["", "the image ends after 3 bytes"]
        assert [Path(file).name for file in table["file"]] == ["a.png", "b.png"]
        assert client.predict_many([b"x"], "malaria").to_records()[0]["file"] is None
        outcomes = client.predict_many([b"x", b"y", b"z"], "malaria")
        assert str(next(outcomes)) == "bytes: x 75.0% (malaria@1), sure"
        assert [record["label"] for record in outcomes.to_records()] == ["y", "z"]  # what no loop has seen
        assert list(client.predict_many([], "malaria").to_pandas().columns) == list(OUTCOME_RECORD)


def test_the_async_client_gives_the_same_table(server: Any) -> None:
    async def run() -> Any:
        async with AsyncClient(server.url) as client:
            answers = await client.predict(b"x", ["malaria", "smoking"])
            return await client.predict_many([b"x", b"bad"], "malaria").to_pandas(), answers.to_pandas()

    many, one = asyncio.run(run())
    with Client(server.url) as client:
        assert many.equals(client.predict_many([b"x", b"bad"], "malaria").to_pandas())
    assert list(one["adapter"]) == ["malaria", "smoking"]


def test_without_pandas_the_error_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InvalidInput, match=r"Fix: pip install pandas, or to_records\(\)"):
        Predictions([predicted()]).to_pandas()


class Seen(HTMLParser):
    """The tags of a page, its text, and every attribute that could load or run something."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.open: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "image"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("img", "image"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(answer: Any) -> Seen:
    """What a notebook gets: well-formed, without anything that runs or is fetched."""
    seen = Seen(answer._repr_html_())
    assert not seen.tags & {"script", "iframe", "object", "style", "link"}
    assert not {name for name in seen.names if name.startswith("on")}
    assert all(address.startswith("data:image/") for address in seen.loaded)
    assert seen.open == []
    return seen


def test_a_notebook_shows_image_and_bars_and_no_label_is_markup() -> None:
    seen = shown(predicted(HOSTILE).with_image(png()))
    assert HOSTILE in seen.text
    assert "97.0%" in seen.text
    assert len(seen.loaded) == 1


def test_a_notebook_shows_one_image_for_several_adapters() -> None:
    seen = shown(Predictions([predicted("a").with_image(png()), predicted(HOSTILE)]))
    assert len(seen.loaded) == 1
    assert HOSTILE in seen.text


def test_a_notebook_shows_the_heat_map_over_the_image() -> None:
    values = ((0.0, 1.0), (0.5, -1.0))
    why = Explanation(HOSTILE, 0.9, "cam", (2, 2), values, (30, 40), (0, 0, 40, 30), ADAPTER, BACKBONE, "r", {}, png())
    seen = shown(why)
    assert len(seen.loaded) == 2  # the image and the map
    assert HOSTILE in seen.text
    assert str(why) == f"{HOSTILE} 90.0% (cells@3), by cam"


@pytest.mark.parametrize("content", [b"", b"not an image", b"II*\0" + bytes(100), b"<svg onload=alert(1)>"])
def test_bytes_that_no_browser_shows_are_left_out(content: bytes) -> None:
    seen = shown(predicted().with_image(content))
    assert seen.loaded == []
    assert "97.0%" in seen.text


def test_a_large_image_becomes_a_small_copy_and_pillow_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = png((3000, 2000)), png()
    assert len(predicted().with_image(large)._repr_html_()) < 10_000
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert len(shown(predicted().with_image(small)).loaded) == 1
    assert shown(predicted().with_image(b"\x89PNG\r\n\x1a\n" + bytes(600_000))).loaded == []


def test_the_image_is_no_part_of_the_answer() -> None:
    bare, with_image = predicted(), predicted().with_image(png())
    assert bare == with_image
    assert dataclasses.asdict(bare) == dataclasses.asdict(with_image)
    assert repr(bare) == repr(with_image)
    assert pickle.loads(pickle.dumps(with_image))._repr_html_() == with_image._repr_html_()


def test_predict_keeps_the_image_for_notebooks_and_predict_many_does_not(server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with Client(server.url) as client:
        assert len(shown(client.predict(tmp_path / "a.png", "malaria")).loaded) == 1
        assert len(shown(client.predict(tmp_path / "a.png", ["malaria", "smoking"])).loaded) == 1
        (outcome,) = client.predict_many(tmp_path, "malaria")
        assert outcome.prediction is not None
        assert shown(outcome.prediction).loaded == []
