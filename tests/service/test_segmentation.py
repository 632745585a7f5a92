"""POST /predict with segmentation adapters: run lengths, areas and counts, images, polygons, and refusals."""

from __future__ import annotations

import base64
import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

if TYPE_CHECKING:
    from tests.service.conftest import MakePng

if find_spec("monai") is None:  # to import it takes seconds, in every process that collects this file
    pytest.skip('needs MONAI: pip install "lensmount[monai]"', allow_module_level=True)
pytest.importorskip("skimage", reason='needs scikit-image: pip install "lensmount[serve]"')

from skimage.measure import label, regionprops

from lensmount_adapters import Backbone, Manifest, Preprocessing, decode_image, dump_adapter, load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.manifest import Factors, SegmentationHead
from lensmount_adapters.delta.initial import fresh_low_rank, fresh_tucker
from lensmount_adapters.inputs.images import preprocess
from lensmount_client import Client, InvalidInput, NotAcceptable, UnexpectedResponse
from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SIZE = (75, 60)  # width, height of the posted image


def small(name: str) -> Backbone:
    """A network that is served with small images."""
    module = load_backbone(name, "random:0").module
    return Backbone(name, module, RULE, torch.float32)


@pytest.fixture(scope="module")
def maps() -> Backbone:
    return small("monai_unet")


def make_segmentation(
    backbone: Backbone, seed: int, labels: tuple[str, ...] = ("nucleus",), tucker: bool = False
) -> bytes:
    """An adapter file with a delta on every convolution, even transposed ones. Its masks are neither empty nor full."""
    generator = torch.Generator().manual_seed(seed)
    tensors, modules = {}, {}
    for target in backbone.targets.values():
        if not target.layer.startswith("conv") or not target.name.endswith(".weight"):
            continue
        fresh = fresh_tucker if tucker and target.layer == "conv" else fresh_low_rank
        modules[target.module] = Factors(rank=2, alpha=2.0)
        for key, tensor in fresh(target, 2, 1.0, generator).tensors().items():
            drawn = torch.randn(tensor.shape, generator=generator) * 0.1
            tensors[key] = drawn if "lora_B" in key else tensor
    tensors["head.weight"] = torch.randn(len(labels), backbone.feature_dim, 1, 1, generator=generator) * 5
    tensors["head.bias"] = torch.zeros(len(labels))
    manifest = Manifest(
        name="masks", method="lora", backbone=backbone.ref, preprocessing=RULE, labels=labels,
        head=SegmentationHead(), modules=modules,
    )  # fmt: skip
    return dump_adapter(manifest, tensors, torch.float32)


def expected(backbone: Backbone, data: bytes, image: bytes) -> np.ndarray:
    """Masks [labels, height, width], by a plain forward pass in float64 with dense weights, and torch's resizing."""
    adapter = admit(data, backbone)
    dense = {name: tensor.double() for name, tensor in backbone.tensors.items()}
    for delta in adapter.deltas:
        dense[delta.target.name] = delta.merged(backbone.tensors[delta.target.name]).double()
    picture = decode_image(image)
    pixels = preprocess(picture, RULE)[None].double()
    with torch.no_grad():
        features = torch.func.functional_call(copy.deepcopy(backbone.module).double(), dense, (pixels,))
        logits = adapter.head.double()(features)
    whole = torch.nn.functional.interpolate(logits.sigmoid(), picture.size[::-1], mode="bilinear", antialias=True)
    return (whole[0] >= 0.5).numpy()


@contextmanager
def serving(backbone: Backbone, state: Path) -> Iterator[TestClient]:
    """A server with the adapters plain and tucker (nucleus), and two (nucleus, membrane)."""
    settings = Settings(state=state, zoo=False, threads=1, executor="eager", precision="float32")
    with open_parts(settings, backbone) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for name, seed, tucker in (("plain", 1, False), ("tucker", 2, True)):
            data = make_segmentation(backbone, seed, tucker=tucker)
            client.put(f"/adapters/{name}", content=data).raise_for_status()
        two = make_segmentation(backbone, 3, ("nucleus", "membrane"))
        client.put("/adapters/two", content=two).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def served(maps: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(maps, tmp_path_factory.mktemp("state")) as client:
        yield client


def decoded(size: list[int], counts: list[int]) -> np.ndarray:
    """Decode COCO's run lengths independently."""
    flat = np.zeros(size[0] * size[1], bool)
    position, value = 0, False
    for count in counts:
        flat[position : position + count] = value
        position, value = position + count, not value
    assert position == len(flat)
    return flat.reshape(size[1], size[0]).T


@pytest.mark.parametrize("name", ["monai_unet", "monai_basic_unet"])
def test_masks_equal_those_of_a_dense_network_in_every_format(name: str, make_png: MakePng, tmp_path: Path) -> None:
    backbone = small(name)
    with serving(backbone, tmp_path) as client:
        check_forms(client, backbone, make_png(1, SIZE))


def check_forms(served: TestClient, maps: Backbone, image: bytes) -> None:
    for name, seed, tucker in (("plain", 1, False), ("tucker", 2, True), ("plain", 1, False)):
        answer = served.post(f"/predict?adapter={name}", content=image)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        found = document["segmentation"]
        assert (found["size"], found["encoding"]) == ([SIZE[1], SIZE[0]], "rle")
        mask = decoded(found["size"], found["masks"][0]["counts"])
        truth = expected(maps, make_segmentation(maps, seed, tucker=tucker), image)[0]
        assert (mask != truth).mean() < 0.002  # float32, and Pillow's rounding at the outline
        assert 0.02 < mask.mean() < 0.98
        regions = regionprops(label(mask, connectivity=2))
        assert found["masks"][0]["areas"] == [int(region.area) for region in regions]
        assert (found["masks"][0]["area"], found["masks"][0]["count"]) == (int(mask.sum()), len(regions))
        assert document["predictions"] == [{"label": "nucleus", "score": pytest.approx(mask.mean())}]
        picture = served.post(f"/predict?adapter={name}", content=image, headers={"Accept": "image/png"})
        assert picture.headers["content-type"] == "image/png"
        assert document["adapter"]["digest"] in picture.headers["lensmount-adapter"]
        assert np.array_equal(np.array(Image.open(io.BytesIO(picture.content))), mask.astype(np.uint8))
        shapes = served.post(f"/predict?adapter={name}", content=image, headers={"Accept": "application/geo+json"})
        assert shapes.headers["content-type"] == "application/geo+json"
        assert [f["properties"]["area"] for f in shapes.json()["features"]] == found["masks"][0]["areas"]
    integrity = served.get("/integrity").json()
    assert integrity["ok"]
    assert integrity["changed"] == []


def test_the_sdk_reads_the_masks_and_draws_them(served: TestClient, make_png: MakePng, tmp_path: Path) -> None:
    image = make_png(1, SIZE)
    handed = httpx.MockTransport(lambda request: handed_on(served, request))
    with Client("http://127.0.0.1", transport=handed) as client:
        found = client.segment(image, "two")
        assert found.size == (SIZE[1], SIZE[0])
        rows = np.array([list(row) for row in found.mask("membrane")], np.uint8) // 255
        values = np.array(Image.open(io.BytesIO(client.mask_png(image, "two"))))
        first = np.array([list(row) for row in found.mask()], np.uint8) // 255
        assert np.array_equal(values, np.where(first == 1, 1, 2 * rows))
        assert len(client.polygons(image, "two")["features"]) == sum(mask.count for mask in found.masks)
        written = np.array(Image.open(found.overlay(tmp_path / "seen.png")))
        plain = np.array(Image.open(io.BytesIO(image)).convert("RGB"))
        assert np.array_equal((written != plain).any(-1), values > 0)
        with pytest.raises(InvalidInput, match="nucleus, membrane"):
            found.mask("cell")


def handed_on(served: TestClient, request: httpx.Request) -> httpx.Response:
    answer = served.request(request.method, str(request.url), content=request.read(), headers=dict(request.headers))
    return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_the_sdk_reports_an_adapter_without_masks(client: TestClient, make_png: MakePng) -> None:
    handed = httpx.MockTransport(lambda request: handed_on(client, request))
    with Client("http://127.0.0.1", transport=handed) as sdk:
        with pytest.raises(UnexpectedResponse, match="has no masks"):
            sdk.segment(make_png(), "cells")
        with pytest.raises(NotAcceptable, match="cells gives labels"):
            sdk.mask_png(make_png(), "cells")


def test_several_images_and_adapters_share_one_response(served: TestClient, make_png: MakePng) -> None:
    files = [("file", (f"{seed}.png", make_png(seed, SIZE))) for seed in range(2)]
    alone = served.post("/predict?adapter=two", content=make_png(1, SIZE)).json()
    results = served.post("/predict?adapter=plain,two", files=files).json()["results"]
    assert [(r["adapter"]["name"], r["image"]["index"]) for r in results] == [
        ("plain", 0), ("two", 0), ("plain", 1), ("two", 1)
    ]  # fmt: skip
    assert results[3]["segmentation"] == alone["segmentation"]
    assert [mask["label"] for mask in alone["segmentation"]["masks"]] == ["nucleus", "membrane"]


def test_the_open_inference_protocol_has_the_shares_and_the_image_of_predict(
    served: TestClient, make_png: MakePng
) -> None:
    images = [make_png(seed, SIZE) for seed in range(2)]
    texts = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": texts}
    answer = served.post("/v2/models/two/infer", json={"inputs": [tensor]}).json()
    scores, label_, masks = answer["outputs"]
    assert [(each["name"], each["datatype"], each["shape"]) for each in (scores, label_, masks)] == [
        ("scores", "FP64", [2, 2]), ("label", "BYTES", [2]), ("masks", "BYTES", [2])
    ]  # fmt: skip
    for number, image in enumerate(images):
        ranked = served.post("/predict?adapter=two", content=image).json()["predictions"]
        of = dict(zip(("nucleus", "membrane"), scores["data"][2 * number : 2 * number + 2], strict=True))
        assert of == {each["label"]: each["score"] for each in ranked}
        assert label_["data"][number] == ranked[0]["label"]
        picture = served.post("/predict?adapter=two", content=image, headers={"Accept": "image/png"})
        assert base64.b64decode(masks["data"][number]) == picture.content


def test_sagemaker_and_hugging_face_have_the_shares_and_the_masks_of_predict(
    served: TestClient, make_png: MakePng
) -> None:
    image = make_png(0, SIZE)
    ranked = served.post("/predict?adapter=two", content=image).json()["predictions"]
    assert served.post("/hf/two", content=image).json() == ranked
    assert served.post("/invocations?adapter=two", content=image).json() == ranked
    for kind in ("image/png", "application/geo+json"):
        accept = {"Accept": kind}
        masks = served.post("/invocations?adapter=two", content=image, headers=accept)
        assert masks.content == served.post("/predict?adapter=two", content=image, headers=accept).content
        assert masks.headers["X-Amzn-SageMaker-Custom-Attributes"].startswith("adapter=two@1,digest=sha256:")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json;q=0.3, image/png;q=0.8", "image/png"),
        ("image/*", "image/png"),
        ("image/png;q=0, */*", "application/json"),
    ],
)
def test_accept_chooses_the_format(served: TestClient, make_png: MakePng, accept: str, kind: str) -> None:
    answer = served.post("/predict?adapter=plain", content=make_png(1, SIZE), headers={"Accept": accept})
    assert answer.headers["content-type"] == kind


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "image/png;q=0", "nonsense;;q=x", ",;,"])
def test_an_accept_header_that_excludes_every_format_is_refused(
    served: TestClient, make_png: MakePng, accept: str
) -> None:
    answer = served.post("/predict?adapter=plain", content=make_png(1, SIZE), headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_masks_without_json_are_only_for_one_image_and_one_adapter(served: TestClient, make_png: MakePng) -> None:
    headers = {"Accept": "image/png"}
    files = [("file", (f"{seed}.png", make_png(seed, SIZE))) for seed in range(2)]
    answer = served.post("/predict?adapter=plain", files=files, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "single_image_required")
    answer = served.post("/predict?adapter=plain,two", content=make_png(1, SIZE), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_an_adapter_of_labels_has_no_masks(client: TestClient, make_png: MakePng) -> None:
    answer = client.post("/predict?adapter=cells", content=make_png(), headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    answer = client.post("/predict?adapter=cells", content=make_png(), headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "segmentation" not in answer.json()


def test_an_image_and_its_masks_are_rotated_as_its_exif_says(served: TestClient) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    upright, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(upright, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise brings it upright
    Image.fromarray(np.rot90(pixels)).save(turned, "PNG", exif=exif)
    masks = [
        served.post("/predict?adapter=plain", content=f.getvalue()).json()["segmentation"] for f in (upright, turned)
    ]
    assert masks[0] == masks[1]
    assert masks[0]["size"] == [SIZE[1], SIZE[0]]
