"""What the view Ask draws in a real Chromium: masks, heat maps, and nothing where the browser has no preview."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from tests.service.page.test_ask import ask, upload

from lensmount_adapters import Backbone, Manifest, Preprocessing, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import SegmentationHead

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.conftest import DrawAdapter
    from tests.service.browser import Listening
    from tests.service.conftest import MakeParts, MakePng, Until

SIZE = (75, 60)  # width, height of the posted image
RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_a_volume_is_named_and_scored_without_a_preview(
    page: Page, make_parts: MakeParts, draw_adapter: DrawAdapter, listening: Listening
) -> None:
    volumes = load_backbone("resnet10t-3d", "random:0")
    volumes.preprocessing = volumes.preprocessing.model_copy(update={"depth": 6, "size": (32, 32)})
    voxels = io.BytesIO()
    np.save(voxels, np.random.default_rng(0).integers(0, 4000, (7, 40, 36)).astype(np.int16))
    with make_parts(volumes) as parts, listening(parts.app) as url:
        adapter = draw_adapter(volumes, rank=2, modules=r"layer4\..*conv\d")
        adapter.manifest["preprocessing"] |= {"window": {"kind": "range", "lower": 0.0, "upper": 4000.0}}
        ask("PUT", f"{url}/adapters/lung", content=adapter.dump()).raise_for_status()
        right = ask("POST", f"{url}/predict?adapter=lung", content=voxels.getvalue()).json()["predictions"]

        page.goto(url)
        page.get_by_text("NIfTI").wait_for()
        page.locator("#files").set_input_files([upload(voxels.getvalue(), "scan.npy")])
        page.locator(".card h4").wait_for()
        assert page.locator(".card h3").inner_text() == "scan.npy"
        page.get_by_text("No preview for this format").wait_for()
        assert page.locator(".score .number").all_text_contents() == [
            f"{prediction['score']:.1%}" for prediction in right
        ]


def make_segmentation(backbone: Backbone) -> bytes:
    draw = torch.Generator().manual_seed(3)
    labels = ("nucleus", "membrane")
    tensors = {
        "head.weight": torch.randn(2, backbone.feature_dim, 1, 1, generator=draw) * 5,
        "head.bias": torch.zeros(2),
    }
    name = [name for name in backbone.targets if name.endswith("bias")][-1]  # InstanceNorm cancels the earlier ones
    tensors[f"{name}.delta"] = torch.randn(backbone.targets[name].shape, generator=draw)
    manifest = Manifest(
        name="masks", method="bias", backbone=backbone.ref, preprocessing=RULE, labels=labels, head=SegmentationHead()
    )
    return dump_adapter(manifest, tensors, torch.float32)


def test_masks_are_drawn_over_the_image_pixel_by_pixel(
    page: Page, make_parts: MakeParts, make_png: MakePng, listening: Listening, until: Until
) -> None:
    pytest.importorskip("monai", reason='needs MONAI: pip install "lensmount[monai]"')
    maps = Backbone("monai_unet", load_backbone("monai_unet", "random:0").module, RULE, torch.float32)
    png = make_png(1, SIZE)
    with make_parts(maps) as parts, listening(parts.app) as url:
        ask("PUT", f"{url}/adapters/masks", content=make_segmentation(maps)).raise_for_status()
        drawn = ask("POST", f"{url}/predict?adapter=masks", content=png, headers={"Accept": "image/png"}).content
        told = ask("POST", f"{url}/predict?adapter=masks", content=png).json()["segmentation"]["masks"]

        page.goto(url)
        page.get_by_role("checkbox", name="masks").wait_for()  # the newest adapter is picked at once
        page.locator("#files").set_input_files([upload(png)])
        page.locator("canvas:visible").wait_for()
        # The server's own PNG of the same masks is an independent way to the same pixels.
        palette = Image.open(io.BytesIO(drawn))
        assert len(np.unique(np.asarray(palette))) > 1
        expected = np.array(palette.convert("RGBA"))
        expected[np.array(palette) == 0] = 0
        assert np.array_equal(canvas_pixels(page), expected)

        text = page.locator(".card").inner_text()
        for mask in told:
            assert f"{mask['area']:,} pixels in {mask['count']:,} region" in text
        page.get_by_label("Mask opacity").fill("80")
        until(lambda: page.locator("canvas").evaluate("canvas => getComputedStyle(canvas).opacity") == "0.8")
        page.locator(".card").get_by_role("checkbox", name="nucleus").uncheck()
        counts = told[1]["counts"]
        assert np.count_nonzero(canvas_pixels(page)[..., 3]) == sum(counts[1::2]) == told[1]["area"]


def canvas_pixels(page: Page) -> np.ndarray:
    """uint8 [height, width, 4], as in the browser."""
    script = "c => JSON.stringify([...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"
    flat = json.loads(page.locator("canvas").evaluate(script))
    return np.array(flat, np.uint8).reshape(SIZE[1], SIZE[0], 4)


@pytest.mark.parametrize(
    ("name", "method"), [("resnet10t", "cam, 2 x 2 cells"), ("test_vit", "occlusion, 8 x 8 cells")]
)
def test_a_button_shows_what_speaks_for_the_label(
    page: Page,
    until: Until,
    make_parts: MakeParts,
    make_png: MakePng,
    draw_adapter: DrawAdapter,
    name: str,
    method: str,
    listening: Listening,
) -> None:
    backbone = load_backbone(name, "random:0")
    drawn = draw_adapter(backbone, labels=("<i>one</i>", "two & more"))
    if name == "resnet10t":
        drawn.manifest["preprocessing"]["size"] = [64, 64]
    with make_parts(backbone) as parts, listening(parts.app) as url:
        ask("PUT", f"{url}/adapters/cells", content=drawn.dump()).raise_for_status()
        best = ask("POST", f"{url}/predict?adapter=cells", content=make_png()).json()["predictions"][0]["label"]
        page.goto(url)
        page.get_by_role("checkbox", name="cells").check()
        page.locator("#files").set_input_files([upload(make_png())])

        page.get_by_role("button", name=f"Why {best}?").click()

        shown = page.locator("figure img")
        shown.wait_for()
        until(lambda: page.evaluate("document.querySelector('figure img').naturalWidth > 0"))
        assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [48, 40]
        assert page.locator("figcaption").inner_text() == (f"Red and yellow: what speaks for {best}. Method {method}.")
