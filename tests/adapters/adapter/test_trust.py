"""The trust block is strict, and files without one are what they were before it existed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters import Backbone, Manifest, admit, dump_adapter, parse_adapter
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.errors import AdapterInvalid

ZOO = Path(__file__).parents[3] / "adapters" / "zoo"


def test_a_file_with_a_block_is_version_2_and_keeps_it(
    backbone: Backbone, parts: Any, draw_trust: Callable[..., Any]
) -> None:
    manifest, tensors = draw_trust(backbone, parts)
    adapter = admit(dump_adapter(manifest, tensors), backbone)
    assert adapter.manifest.schema_version == 2
    block = adapter.manifest.trust
    assert block is not None
    assert block.model_dump(exclude={"of"}) == manifest.trust.model_dump(exclude={"of"})
    assert Manifest.parse(adapter.manifest.dump()) == adapter.manifest


def test_a_manifest_without_a_block_does_not_mention_it() -> None:
    for path in ZOO.glob("*.safetensors"):
        manifest = parse_adapter(path.read_bytes()).manifest
        if manifest.trust is None:
            assert "trust" not in json.loads(manifest.dump())


def test_a_block_in_a_file_of_version_1_is_refused_and_the_advice_works(
    backbone: Backbone, parts: Any, draw_trust: Callable[..., Any]
) -> None:
    manifest, tensors = draw_trust(backbone, parts)
    parts.manifest = json.loads(parse_adapter(dump_adapter(manifest, tensors)).manifest.dump())
    parts.tensors = tensors
    parts.manifest["schema_version"] = 1
    with pytest.raises(
        AdapterInvalid, match=r"trust block.*version 1\. Fix: write the file with \S+write_adapter"
    ) as c:
        admit(parts.dump(), backbone)
    assert c.value.code == "manifest_invalid"
    parts.manifest["schema_version"] = 2
    assert admit(dump_adapter(Manifest.parse(json.dumps(parts.manifest)), tensors), backbone).trust is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("calibration/temperature", 0.0),
        ("calibration/source", "validation"),
        ("calibration/ece", 1.5),
        ("calibration/images", 0),
        ("calibration/ece_interval", [0.1]),
        ("calibration/unknown", 1),
        ("conformal/method", "aps"),
        ("conformal/coverage", 1.0),
        ("conformal/thresholds", [-0.1, 0.2]),
        ("selective/threshold", 2.0),
        ("operating/kind", "precision"),
        ("familiarity/space", "blocks.4"),
        ("familiarity/quantiles", [0.0] * 100),
        ("familiarity/flag", 0.0),
        ("of", "sha256:12"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(
    path: str, value: object, backbone: Backbone, parts: Any, draw_trust: Callable[..., Any]
) -> None:
    manifest, _ = draw_trust(backbone, parts)
    document = json.loads(manifest.dump())
    node = document["trust"]
    *parents, last = path.split("/")
    for key in parents:
        node = node[key]
    node[last] = value
    with pytest.raises(AdapterInvalid, match=f"trust.{path.replace('/', '.')}") as caught:
        Manifest.parse(json.dumps(document))
    assert caught.value.code == "manifest_invalid"


def test_a_block_without_any_part_is_refused() -> None:
    with pytest.raises(ValueError, match="found no part, expected at least one"):
        Trust()
