"""Volumes over HTTP: every format gives the same scores, swaps leave no trace, and other inputs are refused."""

from __future__ import annotations

import copy
import gzip
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, load_backbone, tensor_digest
from lensmount_adapters.inputs.rules import IntensityRange

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

nibabel: Any = pytest.importorskip("nibabel", reason="the extra 'volumes' is not installed")
tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")

ADAPTED = r"layer\d\..*conv\d"  # in four blocks, or the order of the slices would not show
VOXELS = np.random.default_rng(0).integers(0, 4000, (7, 40, 36)).astype(np.int16)


def npy(voxels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, voxels)
    return file.getvalue()


def tiff(voxels: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, voxels, photometric="minisblack")
    return file.getvalue()


def nii_gz(voxels: np.ndarray) -> bytes:
    return gzip.compress(bytes(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.eye(4)).to_bytes()))


@pytest.fixture(scope="module")
def volumes() -> Backbone:
    found = load_backbone("resnet10t-3d", "random:0")
    small = found.preprocessing.model_copy(update={"depth": 6, "size": (32, 32)})  # what programs are tried out on
    found.preprocessing = small
    return found


@pytest.fixture(scope="module")
def files(volumes: Backbone, draw_adapter: Any) -> dict[str, bytes]:
    """Two adapters that use the depth, with different windows, and one whose manifest is for images."""
    found = {}
    for seed, (name, upper) in enumerate((("lung", 4000.0), ("bone", 1000.0), ("flat", 1.0))):
        parts = draw_adapter(volumes, rank=2, seed=seed, modules=ADAPTED, size=1.0, labels=("no", "yes"))
        window = IntensityRange(lower=0, upper=upper).model_dump()
        parts.manifest["preprocessing"] |= {"depth": 6, "size": [32, 32], "window": window}
        if name == "flat":
            parts.manifest["preprocessing"] = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
        found[name] = parts.dump()
    return found


@pytest.fixture(scope="module", params=["eager", "openvino", "merged"])
def client(
    request: pytest.FixtureRequest, volumes: Backbone, files: dict[str, bytes], make_shared_parts: MakeParts
) -> Iterator[TestClient]:
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    with (
        make_shared_parts(volumes, executor=request.param, integrity_age_s=0.0) as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        for name in ("lung", "bone"):
            assert client.put(f"/adapters/{name}", content=files[name]).status_code == 201
        yield client


def score(client: TestClient, name: str, data: bytes) -> float:
    answer = client.post(f"/predict?adapter={name}", content=data)
    assert answer.status_code == 200, answer.text
    return next(float(one["score"]) for one in answer.json()["predictions"] if one["label"] == "yes")


def test_every_format_gives_the_same_scores_and_swapping_leaves_no_trace(client: TestClient, volumes: Backbone) -> None:
    assert client.get("/integrity").json()["ok"] is True  # restores the base: an upload is tried out on the weights
    before = {name: tensor_digest(tensor) for name, tensor in volumes.tensors.items()}

    lung = {score(client, "lung", data) for data in (npy(VOXELS), tiff(VOXELS), nii_gz(VOXELS))}
    bone = score(client, "bone", tiff(VOXELS))
    backwards = score(client, "lung", npy(VOXELS[::-1]))
    again = score(client, "lung", nii_gz(VOXELS))

    assert lung == {again}
    assert abs(bone - again) > 1e-3
    assert abs(backwards - again) > 1e-3  # these adapters see the order of the slices
    assert client.get("/integrity").json()["ok"] is True
    assert {name: tensor_digest(tensor) for name, tensor in volumes.tensors.items()} == before


def test_several_volumes_and_adapters_in_one_request(client: TestClient) -> None:
    sent = [("file", ("a.npy", npy(VOXELS))), ("file", ("b.nii.gz", nii_gz(VOXELS[::-1])))]

    results = client.post("/predict?adapter=lung,bone", files=sent).json()["results"]

    assert [(one["image"]["name"], one["adapter"]["name"]) for one in results] == [
        ("a.npy", "lung"), ("a.npy", "bone"), ("b.nii.gz", "lung"), ("b.nii.gz", "bone")
    ]  # fmt: skip
    found = {one["label"]: one["score"] for one in results[2]["predictions"]}
    assert found["yes"] == pytest.approx(score(client, "lung", npy(VOXELS[::-1])), abs=1e-5)


REFUSED: dict[str, tuple[Callable[[Callable[..., bytes]], bytes], int, str]] = {
    "an image": (lambda png: png(), 415, "unsupported_volume_format"),
    "nothing": (lambda png: b"", 422, "volume_empty"),
    "a file cut short": (lambda png: npy(VOXELS)[:-10], 422, "volume_truncated"),
    "NaN": (lambda png: npy(np.full((4, 20, 20), np.nan)), 422, "volume_invalid"),
    "too many slices": (lambda png: npy(np.zeros((5000, 5, 5), np.uint8)), 413, "volume_too_large"),
    "one page": (lambda png: tiff(VOXELS[0]), 415, "unsupported_volume_format"),
}


@pytest.mark.parametrize("client", ["eager"], indirect=True, scope="module")
@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_volume_is_refused_with_its_code(
    client: TestClient, make_png: Callable[..., bytes], name: str
) -> None:
    make, status, code = REFUSED[name]

    answer = client.post("/predict?adapter=lung", content=make(make_png))

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("client", ["eager"], indirect=True, scope="module")
def test_an_adapter_of_images_is_refused_on_a_backbone_of_volumes(client: TestClient, files: dict[str, bytes]) -> None:
    answer = client.put("/adapters/flat", content=files["flat"])

    assert (answer.status_code, answer.json()["code"]) == (422, "preprocessing_mismatch")


def test_a_volume_is_refused_by_an_adapter_of_images(make_parts: MakeParts, make_adapter: Callable[..., bytes]) -> None:
    flat = load_backbone("test_resnet", "random:0")
    with make_parts(flat) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1))
        for data in (npy(VOXELS), nii_gz(VOXELS)):
            answer = client.post("/predict?adapter=cells", content=data)
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image_format")
            assert "adapter takes images" in answer.json()["detail"]


def test_the_scores_are_those_of_the_complete_network_in_float64(
    client: TestClient, volumes: Backbone, draw_adapter: Any, merged64: Any
) -> None:
    """Weights by einsum and the complete module by functional_call, in float64, without trunk, branch or programs."""
    parts = draw_adapter(volumes, rank=2, seed=0, modules=ADAPTED, size=1.0, labels=("no", "yes"))
    names = [f"{module}.weight" for module in parts.manifest["modules"]]
    weights = {name: tensor.double() for name, tensor in volumes.tensors.items()}
    weights |= {name: merged64(volumes, parts, name) for name in names}
    x = torch.from_numpy(VOXELS[None, :6, :32, :32].astype(np.float64)).clamp(0, 4000) / 4000  # no resampling needed
    mean, std = (
        torch.tensor(parts.manifest["preprocessing"][key]).double().view(3, 1, 1, 1) for key in ("mean", "std")
    )
    with torch.no_grad():
        module = copy.deepcopy(volumes.module).double()  # the resident one in float64 and back has other tensors
        features = torch.func.functional_call(module, weights, (((x - mean) / std)[None],))
        logits = features @ parts.tensors["head.weight"].double().T + parts.tensors["head.bias"].double()

    found = score(client, "lung", npy(VOXELS[:6, :32, :32]))

    assert found == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-5)
