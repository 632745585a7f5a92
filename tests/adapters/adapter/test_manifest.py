"""The manifest comes from outside: anything that is not exactly as documented is refused, and the error names it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lensmount_adapters import Manifest, Preprocessing
from lensmount_adapters.adapter.manifest import CosineHead, MlpHead, check_name
from lensmount_adapters.errors import AdapterInvalid

MANIFEST: dict[str, Any] = {
    "schema_version": 1,
    "name": "malaria",
    "method": "lora",
    "backbone": {"name": "resnet34", "fingerprint": "sha256:" + "0a" * 32},
    "preprocessing": {"size": [224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "labels": ["parasitised", "uninfected"],
    "head": {"kind": "linear"},
    "modules": {"layer3.0.conv1": {"rank": 8, "alpha": 12.0}},
}


def parse(**changes: object) -> Manifest:
    return Manifest.parse(json.dumps({**MANIFEST, **changes}))


def test_missing_fields_get_their_defaults() -> None:
    manifest = parse()
    assert manifest.labels == ("parasitised", "uninfected")
    assert isinstance(manifest.preprocessing, Preprocessing)
    assert manifest.preprocessing.resize == "squash"
    assert manifest.head.activation == "softmax"
    assert manifest.scales() == {"layer3.0.conv1": 1.5}


def test_dump_and_parse_are_inverse_and_equal_manifests_give_equal_text() -> None:
    manifest = parse(training={"seed": 1, "metrics": {"accuracy": 0.97}}, license="CC-BY-4.0")
    assert Manifest.parse(manifest.dump()) == manifest
    shuffled = json.dumps(dict(reversed(json.loads(manifest.dump()).items())))
    assert Manifest.parse(shuffled).dump() == manifest.dump()


def test_every_kind_of_head_is_read() -> None:
    layers = [
        {"type": "linear", "in_features": 512, "out_features": 64},
        {"type": "batch_norm", "features": 64},
        {"type": "leaky_relu", "negative_slope": 0.1},
        {"type": "dropout", "p": 0.5},
        {"type": "linear", "in_features": 64, "out_features": 2},
    ]
    assert isinstance(parse(head={"kind": "mlp", "layers": layers}).head, MlpHead)
    assert isinstance(parse(head={"kind": "cosine", "dim": 512, "projected": True}).head, CosineHead)


REFUSED_TEXT = {
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "a key twice": json.dumps(MANIFEST)[:-1] + ', "name": "other"}',
    "a key twice, deep inside": json.dumps(MANIFEST)[:-1] + ', "training": {"a": [{"b": 1, "b": 2}]}}',
    "NaN": json.dumps(MANIFEST)[:-1] + ', "training": {"loss": NaN}}',
    "-Infinity": json.dumps(MANIFEST)[:-1] + ', "training": {"loss": -Infinity}}',
    "a number that is infinite when read": json.dumps(MANIFEST)[:-1] + ', "training": {"loss": 1e999}}',
    "a lone surrogate in a value": json.dumps(MANIFEST)[:-1] + ', "training": {"note": "\\ud800"}}',
    "a lone surrogate in a key": json.dumps(MANIFEST)[:-1] + ', "training": {"\\ud800": 1}}',
    "an integer of 5,000 digits": json.dumps(MANIFEST)[:-1] + ', "training": {"n": ' + "9" * 5000 + "}}",
    "400 levels": json.dumps(MANIFEST)[:-1] + ', "training": {"n": ' + "[" * 400 + "]" * 400 + "}}",
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
}


@pytest.mark.parametrize("name", REFUSED_TEXT)
def test_it_refuses_text_with(name: str) -> None:
    with pytest.raises(AdapterInvalid) as caught:
        Manifest.parse(REFUSED_TEXT[name])
    assert caught.value.code == "manifest_invalid"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Malaria"),
        ("name", "a" * 65),
        ("name", "malaria\n"),
        ("name", ""),
        ("method", ""),
        ("labels", []),
        ("labels", ["a", "a"]),
        ("labels", ["a\tb"]),
        ("labels", "ab"),
        ("titles", {"other": "Of no label"}),
        ("titles", {"uninfected": ""}),
        ("titles", {"uninfected": "x" * 257}),
        ("head", {"kind": "segmentation", "activation": "softmax"}),
        ("head", {"kind": "detection"}),
        ("head", {"kind": "linear", "temperature": 0}),
        ("head", {"kind": "linear", "activation": "relu"}),
        ("head", {"kind": "mlp", "layers": []}),
        ("head", {"kind": "mlp", "layers": [{"type": "dropout", "p": 1.0}]}),
        ("head", {"kind": "mlp", "layers": [{"type": "dropout"}] * 33}),
        ("head", {"kind": "cosine", "dim": 0}),
        ("modules", {"": {"rank": 1, "alpha": 1}}),
        ("modules", {"x" * 257: {"rank": 1, "alpha": 1}}),
        ("modules", {"a": {"rank": 1.5, "alpha": 1}}),
        ("modules", {"a": {"rank": True, "alpha": 1}}),
        ("modules", {"a": {"rank": 1}}),
        ("training", []),
        ("license", "x" * 5000),
        ("preprocessing", {**MANIFEST["preprocessing"], "size": [224]}),
        ("preprocessing", {**MANIFEST["preprocessing"], "size": [8, 8]}),
        ("preprocessing", {**MANIFEST["preprocessing"], "size": [224.0, 224.0]}),
        ("preprocessing", {**MANIFEST["preprocessing"], "crop_fraction": 0}),
        ("preprocessing", {**MANIFEST["preprocessing"], "crop_fraction": 1.1}),
        ("preprocessing", {**MANIFEST["preprocessing"], "std": [0.5, 0.5, -0.5]}),
        ("preprocessing", {**MANIFEST["preprocessing"], "colour": "bgr"}),
    ],
)
def test_it_refuses_a_wrong_field_and_names_it(field: str, value: object) -> None:
    with pytest.raises(AdapterInvalid, match=rf"^manifest, (manifest|{field})") as caught:
        parse(**{field: value})
    assert caught.value.code == "manifest_invalid"


@pytest.mark.parametrize("field", ["name", "method", "backbone", "preprocessing", "labels", "head"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(AdapterInvalid, match=f"^manifest, {field}: Field required"):
        Manifest.parse(json.dumps({key: value for key, value in MANIFEST.items() if key != field}))


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().name = "other"


@pytest.mark.parametrize("name", ["malaria", "a", "0", "a.b_c-d", "a" * 64])
def test_a_valid_name(name: str) -> None:
    assert check_name(name)


PATHS = ["../etc", "a/b", "..", "/etc/passwd", "model/", " ..", ".. ", ".", "-rf", "a\0", "a\n"]
RESERVED = ["nul", "base", "none", "default", "latest", "CON"]
TEXTS = ["", " ", "\t", "a" * 65, "A", "\u0430dapter", "'; DROP TABLE", "{{7*7}}", "%s%n", "<script>"]


@pytest.mark.parametrize("name", PATHS + RESERVED + TEXTS)
def test_an_invalid_name(name: str) -> None:
    assert not check_name(name)
