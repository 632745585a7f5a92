"""A server's parts follow its settings: how adapters are switched, where files are kept, which zoo is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from lensmount_adapters import Backbone, load_backbone
from lensmount_service import build
from lensmount_service.build import _hot_bytes, open_blobs, open_parts, zoo_folder
from lensmount_service.errors import Unavailable
from lensmount_service.settings import Settings
from lensmount_service.store.blobs import BlobStore

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng


def test_subtracting_serves_nearly_the_same_scores_without_clones(
    tmp_path: Path, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    scores = {}
    for swap in ("exact", "subtract"):
        settings = Settings(
            state=tmp_path / swap,
            zoo=False,
            threads=1,
            backbone="test_resnet",
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
        backbone="test_resnet",
        weights="random:0",
        executor="merged",
        swap="subtract",
    )
    backbone = load_backbone("test_resnet", "random:0")
    devices = []

    def load(name: str, weights: object, device: object, dtype: object) -> Backbone:
        devices.append(device)
        return backbone

    with open_parts(settings.model_copy(update={"device": "cuda"}), backbone):
        monkeypatch.setattr(build, "load_backbone", load)
        assert backbone.base(["conv1.0.weight"]).keys() == {"conv1.0.weight"}
    assert devices == ["cpu"]


def test_adapters_are_switched_exactly_unless_the_settings_say_otherwise(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    with make_parts(executor="merged") as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for seed in (1, 2):
            client.put(f"/adapters/task{seed}", content=make_adapter(seed)).raise_for_status()
            client.post(f"/predict?adapter=task{seed}", content=make_png()).raise_for_status()
        assert client.get("/integrity").json()["ok"]
        assert parts.engine.backbone.bytes_resident()[1] > 0  # clones of the weights that adapters change


def test_adapter_files_are_kept_on_disk_or_in_the_store_of_the_url(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    assert isinstance(open_blobs(Settings(state=tmp_path)), BlobStore)
    remote = open_blobs(Settings(state=tmp_path, blobs=SecretStr(f"file://{tmp_path}/bucket")))
    digest = remote.put(b"abc")
    assert [path.name for path in (tmp_path / "bucket").iterdir()] == [digest.removeprefix("sha256:")]


def test_a_store_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lensmount_service.store.remote.objects", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(Unavailable, match=r"the package obstore. Fix: pip install \"lensmount\[s3\]\""):
        open_blobs(Settings(state=tmp_path, blobs=SecretStr("s3://bucket")))


def test_the_zoo_of_a_checkout_holds_adapter_files_with_their_cards() -> None:
    adapters = {path.stem for path in zoo_folder().glob("*.safetensors")}
    assert adapters
    assert adapters <= {path.stem for path in zoo_folder().glob("*.md")}


@pytest.mark.parametrize(
    ("asked", "free", "expected"), [({}, None, 2**29), ({}, 2**36, 2**35), ({"hot_bytes": 5}, 2**36, 5)]
)
def test_the_memory_for_hot_adapters_follows_the_gpu_unless_it_was_asked_for(
    asked: dict[str, Any], free: int | None, expected: int, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_service.build.free_memory", lambda device: free)

    assert _hot_bytes(Settings(**asked), backbone) == expected
