"""`--precision int8`: the server's runner computes with int8 trunks, and refuses what it cannot do with a fix."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.errors import DatasetError, ExecutorUnavailable
from lensmount_adapters.programs import int8
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_service import build
from lensmount_service.settings import Settings
from lensmount_service.worker import attempt
from lensmount_service.worker.attempt import JobAttempt
from lensmount_service.worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet10t", "random:0")


def described(settings: Settings, backbone: Backbone) -> dict[str, str]:
    runner = build._runner(settings, backbone)
    assert isinstance(runner, SegmentRunner)
    runner.close()
    return runner.describe()


def test_precision_int8_is_the_trunk_s_and_the_branch_stays_in_float(backbone: Backbone, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    found = described(Settings(state=tmp_path, precision="int8", threads=1), backbone)
    assert (found["executor"], found["trunk"]) == ("openvino", "int8")
    assert found["precision"] in ("float32", "bfloat16")


def test_auto_offers_int8_where_nncf_is_and_nobody_forbids_it(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    settings = Settings(state=tmp_path, executor="openvino", threads=1, int8=True)
    monkeypatch.setattr(build, "available", lambda: True)
    assert described(settings, backbone)["trunk"] == "int8 where it costs nothing"
    for change in ({"int8": False}, {"executor": "eager"}, {"precision": "float32"}, {"dtype": "float16"}):
        if change.get("dtype"):
            assert build._int8(settings.model_copy(update=change), _OpenVino()) is None  # type: ignore[arg-type]
        else:
            assert "trunk" not in described(settings.model_copy(update=change), backbone)
    monkeypatch.setattr(build, "available", lambda: False)
    assert "trunk" not in described(settings, backbone)


def test_precision_int8_without_nncf_or_with_a_folder_without_images_is_refused_at_the_start(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    settings = Settings(state=tmp_path, precision="int8", threads=1)
    monkeypatch.setattr(int8, "available", lambda: True)
    with pytest.raises(DatasetError, match="found no images"):
        build._runner(settings.model_copy(update={"int8_calibration": tmp_path}), backbone)
    monkeypatch.setattr(int8, "available", lambda: False)
    with pytest.raises(ExecutorUnavailable, match=r"Fix: pip install 'lensmount\[int8\]'"):
        build._runner(settings, backbone)


@pytest.mark.parametrize("change", [{"executor": "eager"}, {"executor": "merged"}, {"dtype": "bfloat16"}])
def test_precision_int8_with_settings_that_exclude_it_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Fix: leave --executor and --dtype out"):
        Settings.model_validate({"precision": "int8", **change})


class _OpenVino:
    name = "openvino"


def test_a_worker_scores_adapters_on_the_trunk_of_its_server_unless_it_must_not(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    shared: dict[str, Any] = {"state": tmp_path, "int8_calibration": tmp_path, "int8": True}
    monkeypatch.setattr(build, "available", lambda: True)
    monkeypatch.setattr(attempt, "available", lambda: True)
    use = build._int8(Settings(executor="openvino", **shared), _OpenVino())  # type: ignore[arg-type]
    assert use is not None

    def of_worker(options: dict[str, str], **change: Any) -> Int8Trunks | None:
        request = SimpleNamespace(hyper_parameters=options)
        settings = WorkerSettings(**shared | change)
        return JobAttempt._int8(SimpleNamespace(_settings=settings, _request=request))  # type: ignore[arg-type]

    own = of_worker({})
    assert own is not None
    assert own.recipe(backbone, "layer3") == use.trunks.recipe(backbone, "layer3")
    assert own.folder == use.trunks.folder
    assert of_worker({}, int8=False) is None
    assert of_worker({"trunk": "int8"}, int8=False) is not None
    monkeypatch.setattr(attempt, "available", lambda: False)
    assert of_worker({}) is None
