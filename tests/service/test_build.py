"""`--swap subtract` serves without clones, and /integrity reports that it drifts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, load_backbone
from lensmount_service import build
from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakePng


def test_subtracting_serves_nearly_the_same_scores_without_clones(
    tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    scores = {}
    for swap in ("exact", "subtract"):
        settings = Settings(
            state=tmp_path / swap,
            zoo=False,
            threads=1,
            backbone="resnet10t",
            weights="random:0",
            executor="merged",
            swap=swap,
            device="cpu",
        )
        with open_parts(settings) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
            for seed in (1, 2):
                client.put(f"/adapters/task{seed}", content=make_adapter(seed)).raise_for_status()
            for _ in range(5):
                for seed in (1, 2):
                    answer = client.post(f"/predict?adapter=task{seed}", content=make_png()).json()
                    scores[swap, seed] = {p["label"]: p["score"] for p in answer["predictions"]}
            assert client.get("/integrity").json()["ok"] == (swap == "exact")
            assert (parts.engine.backbone.bytes_resident()[1] > 0) == (swap == "exact")
    for seed in (1, 2):
        assert scores["subtract", seed] == pytest.approx(scores["exact", seed], abs=1e-4)


def test_subtracting_rereads_the_weights_into_host_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that has no room for clones has none for a second backbone either."""
    settings = Settings(
        state=tmp_path,
        zoo=False,
        threads=1,
        backbone="resnet10t",
        weights="random:0",
        executor="merged",
        swap="subtract",
    )
    backbone = load_backbone("resnet10t", "random:0")
    devices = []

    def load(name: str, weights: object, device: object, dtype: object) -> Backbone:
        devices.append(device)
        return backbone

    with open_parts(settings.model_copy(update={"device": "cuda"}), backbone):
        monkeypatch.setattr(build, "load_backbone", load)
        assert backbone.base(["conv1.0.weight"]).keys() == {"conv1.0.weight"}
    assert devices == ["cpu"]
