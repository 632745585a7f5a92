"""The training record is read whatever values it has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.report.effective import effective_settings
from lensmount_adapters.report.record import flatten, read_record

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawManifest


def test_the_record_of_a_run_is_read(draw_manifest: DrawManifest) -> None:
    record = read_record(draw_manifest(["oak", "elm"]))

    assert (record.data_name, record.images, record.best_epoch, record.seconds) == ("wood", 20, 5, 83.2)
    assert [part.name for part in record.parts] == ["train", "validation", "test"]
    assert record.parts[0].classes == {"oak": 10, "elm": 10}
    assert record.history[1].loss == 0.5
    assert record.hyper_parameters["augmentation.zoom"] == "0.8, 1.2"
    assert record.run["precision"] == "bf16"


def test_full_fine_tuning_counts_the_backbone_and_a_head_at_four_bytes_per_parameter(
    draw_manifest: DrawManifest,
) -> None:
    record = read_record(draw_manifest(["oak", "elm"]))

    assert record.full_parameters == 100_000
    assert record.full_bytes == 400_000
    assert record.full_size_ratio(30_000) == 13
    assert record.full_size_ratio(0) is None


@pytest.mark.parametrize("odd", [None, "text", 7, -1, 1e300, [], [[]], {}, {"a": {"b": [1, {"c": 2}]}}, True, 10**400])
def test_no_odd_value_of_any_field_raises(odd: object, draw_manifest: DrawManifest) -> None:
    good = draw_manifest(["oak", "elm"])
    for key in (*good.training, "card", "weights", "trunk", "calibration"):
        training = {**good.training, key: odd}
        read_record(good.model_copy(update={"training": training}))
        effective_settings(good.model_copy(update={"training": training}))
    for key in ("parts", "seed", "shots"):
        split = {**good.training["split"], key: odd}
        read_record(good.model_copy(update={"training": {**good.training, "split": split}}))
    said = {"author": odd, "intended_use": odd, "limits": odd, "prevalence": odd}
    read_record(good.model_copy(update={"training": {"card": said, "hyper_parameters": {"positive": odd}}}))
    read_record(good.model_copy(update={"training": {"history": [odd, {"loss": odd}]}}))
    read_record(good.model_copy(update={"training": {"split": {"parts": {"test": odd, "x": {"classes": odd}}}}}))


def test_deep_and_long_records_are_cut() -> None:
    deep = json.loads('{"a":' * 200 + "1" + "}" * 200)

    assert flatten(deep) == {"a.a.a.a.a.a": "..."}
    assert len(flatten({str(n): n for n in range(1000)})) == 200
    assert len(flatten({"a": "x" * 10_000})["a"]) == 300
