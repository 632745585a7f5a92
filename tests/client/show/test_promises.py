"""What an adapter promises, in lines for people."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from lensmount_client._show.promises import NOTHING, promise_rows, promise_words

TRUST: dict[str, Any] = {
    "calibration": {"images": 412, "ece": 0.0214, "ece_interval": [0.011, 0.039]},
    "conformal": {"coverage": 0.95, "method": "lac", "thresholds": [0.4, None], "images": [390, 12]},
    "selective": {"accuracy": 0.99, "threshold": 0.8125, "share": 0.704, "images": 412},
    "operating": {"positive": "cat", "kind": "sensitivity", "value": 0.98, "threshold": 0.25, "images": 390},
    "familiarity": {"flag": 98.0, "images": 412},
}


def manifest(**changes: Any) -> dict[str, Any]:
    return {"labels": ["cat", "dog"], "method": "lora", "trust": TRUST | changes}


def test_each_promise_is_a_sentence() -> None:
    assert promise_rows(manifest()) == [
        ("calibration error", "0.021 (0.011 to 0.039) on 412 images kept aside"),
        ("sets of labels", "hold the right one in 95 % of the images; too few images to promise it for dog"),
        ("accepts", "scores from 0.812 on: 99 % right, 70.4 % of the images"),
        ("operating point", "cat from the score 0.250 on: sensitivity of at least 98 %"),
        ("unfamiliar", "from the percentile 98 of 412 images kept aside on"),
    ]


def test_what_cannot_be_promised_is_said() -> None:
    rows = dict(
        promise_rows(
            manifest(
                selective=TRUST["selective"] | {"threshold": None}, operating=TRUST["operating"] | {"threshold": None}
            )
        )
    )
    assert rows["accepts"] == "99 % right cannot be promised with 412 images kept aside"
    assert rows["operating point"] == "sensitivity of at least 98 % cannot be promised with 390 images kept aside"
    assert promise_rows(manifest(**dict.fromkeys(TRUST))) == []
    assert promise_rows({"labels": []}) == [("trust", NOTHING)]


@pytest.mark.parametrize(
    "broken",
    [
        *("text", [1], 7),
        *({"calibration": 3}, {"calibration": {}}, {"calibration": {"ece": "x", "images": 1, "ece_interval": [1, 2]}}),
        *({"conformal": {"thresholds": [1], "coverage": 1}}, {"selective": {"accuracy": None, "threshold": 1}}),
    ],
)
def test_a_manifest_that_somebody_else_wrote_does_not_stop_the_command(broken: Any) -> None:
    assert promise_rows({"labels": ["a", "b"], "trust": broken}) == [("trust", "cannot be read")]


def test_the_measured_parts_have_a_word_each() -> None:
    assert promise_words(None) == ""
    assert (
        promise_words({"calibration": {"ece": 0.1}, "sets": None, "selective": {"share": 1}}) == "calibrated, accepts"
    )


def test_inspect_shows_them_for_a_file(lensmount: Any, tmp_path: Path) -> None:
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {"lensmount": json.dumps(manifest())}, "w": tensor}).encode()
    path = tmp_path / "pets.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    out = lensmount("adapters", "inspect", str(path))[1]
    assert all(word in out for word in ("calibration error", "on 412 images", "99 % right", "percentile 98"))


def test_the_list_has_a_column_for_them_if_any_adapter_has_some(server: Any, lensmount: Any) -> None:
    assert "trust" not in lensmount("adapters", "list", "--url", server.url)[1]
    server.promises["malaria"] = {"calibration": {"ece": 0.1}, "selective": {"share": 1}}
    out = lensmount("adapters", "list", "--url", server.url)[1]
    assert "trust" in out
    assert "calibrated" in out
