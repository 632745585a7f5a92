"""Adapters of a CLIP on a server, made from texts alone or trained: they predict, are swapped and leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, Preprocessing, load_backbone, tensor_digest
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import train
from lensmount_adapters.training.zero_shot import write_zero_shot

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

PROMPTS = Prompts(templates=("a photo of {}.",), classes={"red": ("red noise",), "green": ("green noise",)})


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def files(clip: Path, tmp_path_factory: pytest.TempPathFactory, make_images: Callable[..., None]) -> dict[str, bytes]:
    """A zero-shot adapter, a LoRA adapter on q, k and v that starts from texts, and one at twice the input size."""
    root = tmp_path_factory.mktemp("adapters")
    make_images(root / "noise", ("green", "red"), 10)
    backbone = load_backbone("clip", clip)
    write_zero_shot(root / "texts.safetensors", "texts", PROMPTS, backbone, str(clip))
    few_and_large: dict[str, dict[str, Any]] = {"few": {"head": "text", "prompts": PROMPTS}, "large": {"size": 64}}
    for name, settings in few_and_large.items():
        config = TrainingConfig(
            root / "noise", name, root / f"{name}.safetensors", backbone="clip", weights=str(clip), rank=4,
            shots=4, epochs=2, batch_size=4, precision="fp32", threads=1, test_fraction=0.3, **settings,
        )  # fmt: skip
        train(config, backbone=backbone)
    return {name: (root / f"{name}.safetensors").read_bytes() for name in ("texts", "few", "large")}


def by_hand(backbone: Backbone, data: bytes, picture: bytes) -> dict[str, float]:
    """Merged into the backbone and computed directly, without a server."""
    adapter, swapper = admit(data, backbone), ExactSwapper(backbone)
    swapper.mount(adapter)
    image = preprocess(decode_image(picture), cast(Preprocessing, adapter.manifest.preprocessing))
    scores = adapter.image_scores(backbone, image[None])[0].tolist()
    swapper.unmount()
    return dict(zip(adapter.manifest.labels, scores, strict=True))


@pytest.mark.parametrize("executor", ["eager", "openvino", "merged"])
def test_adapters_of_a_clip_predict_are_swapped_and_leave_the_backbone_unchanged(
    clip: Path,
    files: dict[str, bytes],
    make_parts: MakeParts,
    make_png: Callable[..., bytes],
    executor: str,
) -> None:
    if executor == "openvino":  # seconds for each cut
        pytest.importorskip("openvino")
        files = {name: files[name] for name in ("texts", "large")}
    backbone, picture = load_backbone("clip", clip), make_png()
    wanted = {name: by_hand(backbone, data, picture) for name, data in files.items()}
    before = {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()}
    with make_parts(backbone, executor=executor) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for name, data in files.items():
            assert client.put(f"/adapters/{name}", content=data).status_code == 201
            assert client.get(f"/adapters/{name}/file").content == data
        if executor == "eager":
            assert client.get("/limits").json()["engine"]["mode"] != "merged in place"

        found: dict[str, dict[str, float]] = {}
        for name in (*files, *files):
            answer = client.post(f"/predict?adapter={name}", content=picture)
            assert answer.status_code == 200, answer.text
            scores = {row["label"]: row["score"] for row in answer.json()["predictions"]}
            assert found.setdefault(name, scores) == scores, "the same answer before and after the others"
            assert scores == pytest.approx(wanted[name], abs=1e-4)
        several = client.post(f"/predict?adapter={','.join(files)}", content=picture).json()["results"]

        assert {result["adapter"]["name"] for result in several} == set(files)
        assert client.get("/integrity").json()["ok"]
    assert {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()} == before


def test_an_adapter_of_another_clip_is_refused(
    files: dict[str, bytes], make_clip: Callable[..., Path], make_parts: MakeParts, tmp_path: Path
) -> None:
    other = load_backbone("clip", make_clip(tmp_path / "other", seed=1))
    with make_parts(other) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        answer = client.put("/adapters/texts", content=files["texts"])

    assert (answer.status_code, answer.json()["code"]) == (409, "backbone_mismatch")


def test_a_vision_transformer_is_trained_and_served_at_another_size(
    make_parts: MakeParts, make_images: Callable[..., None], make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    make_images(tmp_path / "noise", ("green", "red"), 10)
    backbone = load_backbone("test_vit@224", "random:0")
    config = TrainingConfig(
        tmp_path / "noise", "noise", tmp_path / "noise.safetensors", backbone="test_vit@224", weights="random:0",
        shots=2, epochs=1, batch_size=4, precision="fp32", threads=1, test_fraction=0.3,
    )  # fmt: skip
    data = train(config, backbone=backbone).path.read_bytes()
    wanted = by_hand(backbone, data, make_png())
    with make_parts(backbone) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert client.put("/adapters/noise", content=data).status_code == 201
        answer = client.post("/predict?adapter=noise", content=make_png()).json()

        assert answer["backbone"]["name"] == "test_vit@224"
        assert {row["label"]: row["score"] for row in answer["predictions"]} == pytest.approx(wanted, abs=1e-4)
        assert client.get("/integrity").json()["ok"]
