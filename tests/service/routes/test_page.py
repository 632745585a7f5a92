"""The page in a real Chromium against a real server."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from lensmount_adapters import Backbone, Manifest, Preprocessing, dump_adapter, load_backbone, parse_adapter
from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.adapter.trust import Conformal, Selective

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.conftest import DrawAdapter
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, MakeTrusted

TOKEN = "a-token-of-the-lab"
SIZE = (75, 60)  # width, height of the posted image


# In Chromium


def upload(png: bytes, name: str = "cell.png") -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": png}


def test_an_image_gets_the_labels_that_the_api_gives_and_errors_are_shown(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    nasty = "<img src=x onerror=alert(1)>.png"
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for name, labels in (("cells", ("<b>a</b>", "b")), ("tiles", tuple("uvwxyz123"))):
            put = httpx.put(f"{url}/adapters/{name}", content=make_adapter(len(labels), labels), headers=headers)
            put.raise_for_status()
        right = httpx.post(f"{url}/predict?adapter=cells,tiles", content=make_png(1), headers=headers).json()["results"]

        page.goto(url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Use this token").click()
        page.get_by_role("alert").get_by_text("Unauthorized (401)").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Use this token").click()
        page.get_by_text("Backbone test_resnet").wait_for()
        assert not page.get_by_label("Token").is_visible()
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]

        page.get_by_role("checkbox", name="cells").check()
        page.locator("#files").set_input_files([upload(make_png(1), nasty), upload(b"no image", "notes.txt")])
        page.get_by_role("checkbox", name="tiles").check()
        page.get_by_text("2 images, 1 with an error").wait_for()

        good, bad = page.locator(".card").nth(0), page.locator(".card").nth(1)
        assert good.get_by_role("heading", level=3).inner_text() == nasty
        assert "unsupported_image_format" in bad.inner_text()
        assert "Unsupported Media Type (415)" in bad.inner_text()
        for section, result in zip(good.locator("section").all(), right, strict=True):
            rows = section.locator(".score")
            assert rows.locator("> span:first-child").all_text_contents() == [p["label"] for p in result["predictions"]]
            for bar, prediction in zip(rows.locator(".meter").all(), result["predictions"], strict=True):
                shown = float(bar.get_attribute("aria-valuenow") or "nan")
                assert shown == pytest.approx(prediction["score"], abs=1e-5)
            assert result["adapter"]["digest"][:19] in section.inner_text()
        assert page.locator("canvas:visible").count() == 0

        page.reload()
        page.get_by_text("Backbone test_resnet").wait_for()  # the token is still there
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_label("Token").wait_for()


BRING = """([kind, name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  const made = kind === "paste"
    ? new ClipboardEvent(kind, {...options, clipboardData: data})
    : new DragEvent(kind, {...options, dataTransfer: data});
  document.body.dispatchEvent(made);
}"""


def test_images_are_dropped_and_pasted_results_follow_the_picked_adapters_and_a_phone_shows_it_all(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        for seed, name in enumerate(("cells", "tiles")):
            httpx.put(f"{url}/adapters/{name}", content=make_adapter(seed)).raise_for_status()
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(url)
        page.get_by_role("checkbox", name="cells").wait_for()
        page.evaluate(BRING, ["drop", "dropped.png", list(make_png(1))])
        page.evaluate(BRING, ["paste", f"{'pasted' * 20}.png", list(make_png(2))])
        page.get_by_text("2 images", exact=True).wait_for()
        assert [card.locator("section").count() for card in page.locator(".card").all()] == [
            0,
            0,
        ]  # no adapter is picked

        page.get_by_role("checkbox", name="cells").check()
        page.get_by_role("checkbox", name="tiles").check()
        page.get_by_text("2 images", exact=True).wait_for()
        headings = page.locator(".card h4").all_text_contents()
        assert headings == ["cells version 1", "tiles version 1"] * 2
        page.get_by_role("checkbox", name="cells").uncheck()
        page.get_by_text("2 images", exact=True).wait_for()
        assert page.locator(".card h4").all_text_contents() == ["tiles version 1"] * 2
        assert page.evaluate("document.documentElement.scrollWidth") == 360

        page.get_by_role("button", name="Remove dropped.png").click()
        page.get_by_text("1 image", exact=True).wait_for()
        httpx.delete(f"{url}/adapters/tiles").raise_for_status()
        page.get_by_role("button", name="Refresh").click()
        page.get_by_role("checkbox", name="tiles").wait_for(state="detached")
        page.locator(".card").get_by_text("Pick an adapter above.").wait_for()  # no other one is picked instead


def test_each_answer_has_a_badge_that_says_what_it_is_worth(
    page: Page,
    make_parts: MakeParts,
    make_trusted: MakeTrusted,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    listening: Listening,
) -> None:
    accepting = Selective(accuracy=0.99, threshold=0.0, share=1.0, images=90)
    unsure = Conformal(coverage=0.95, method="lac", thresholds=(None, None), images=(3, 3))
    trust = parse_adapter(make_trusted()).manifest.trust
    assert trust is not None
    assert trust.familiarity is not None
    adapters = {
        "plain": make_adapter(1),
        "sure": make_trusted(selective=accepting),
        "torn": make_trusted(selective=None, conformal=unsure),
        "unlike": make_trusted(familiarity=trust.familiarity.model_copy(update={"flag": 0.01})),
    }
    with make_parts() as parts, listening(parts.app) as url:
        for name, data in adapters.items():
            httpx.put(f"{url}/adapters/{name}", content=data).raise_for_status()
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(url)
        for name in adapters:
            page.get_by_role("checkbox", name=name).check()
        page.locator("#files").set_input_files(upload(make_png(1)))
        page.get_by_text("1 image", exact=True).wait_for()

        sections = page.locator(".card section")
        badges = [section.locator(".trust").all_text_contents() for section in sections.all()]
        assert badges == [[], ["sure"], ["not sure: no or yes"], ["unlike the images this was trained on"]]
        hint = sections.nth(1).locator(".trust").get_attribute("title") or ""
        assert re.fullmatch(
            r"More unlike the training images than [\d.]+ % of .*Measured on 90 images kept aside.", hint
        )
        assert page.evaluate("document.documentElement.scrollWidth") == 360


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
        httpx.put(f"{url}/adapters/lung", content=adapter.dump()).raise_for_status()
        right = httpx.post(f"{url}/predict?adapter=lung", content=voxels.getvalue()).json()["predictions"]

        page.goto(url)
        page.get_by_text("NIfTI").wait_for()
        page.locator("#files").set_input_files([upload(voxels.getvalue(), "scan.npy")])
        page.locator(".card h4").wait_for()
        assert page.locator(".card h3").inner_text() == "scan.npy"
        page.get_by_text("No preview for this format").wait_for()
        assert page.locator(".number").all_text_contents() == [f"{prediction['score']:.1%}" for prediction in right]


RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


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
    page: Page, make_parts: MakeParts, make_png: MakePng, listening: Listening
) -> None:
    pytest.importorskip("monai", reason='needs MONAI: pip install "lensmount[monai]"')
    maps = Backbone("monai_unet", load_backbone("monai_unet", "random:0").module, RULE, torch.float32)
    png = make_png(1, SIZE)
    with make_parts(maps) as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/masks", content=make_segmentation(maps)).raise_for_status()
        drawn = httpx.post(f"{url}/predict?adapter=masks", content=png, headers={"Accept": "image/png"}).content
        told = httpx.post(f"{url}/predict?adapter=masks", content=png).json()["segmentation"]["masks"]

        page.goto(url)
        page.get_by_role("checkbox", name="masks").wait_for()  # the only adapter is picked at once
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
        assert page.locator("canvas").evaluate("canvas => getComputedStyle(canvas).opacity") == "0.8"
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
        httpx.put(f"{url}/adapters/cells", content=drawn.dump()).raise_for_status()
        best = httpx.post(f"{url}/predict?adapter=cells", content=make_png()).json()["predictions"][0]["label"]
        page.goto(url)
        page.get_by_role("checkbox", name="cells").check()
        page.locator("#files").set_input_files([upload(make_png())])

        page.get_by_role("button", name=f"Why {best}?").click()

        shown = page.locator("figure img")
        shown.wait_for()
        page.wait_for_function("document.querySelector('figure img').naturalWidth > 0")
        assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [48, 40]
        assert page.locator("figcaption").inner_text() == (f"Red and yellow: what speaks for {best}. Method {method}.")


def test_docs_works_without_the_internet_and_can_send_a_request(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    with make_parts() as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1)).raise_for_status()
        page.goto(f"{url}/docs")
        page.get_by_text("Lensmount").first.wait_for()
        page.locator("#operations-health-ready_health_ready_get").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table").get_by_text('"test_resnet"').wait_for()
        assert page.locator(".opblock").count() >= 20  # every route of the API
    assert f"{url}/docs/swagger-ui-bundle.js" in requested
    assert [address for address in requested if not address.startswith((f"{url}/", "data:"))] == []


def test_the_corner_says_who_one_is_and_a_reader_sees_the_page_without_datasets(
    make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening, page: Page
) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        wanted = {"name": "reader1", "scopes": ["predict"], "tenant": "pathology-lab"}
        secret = httpx.post(f"{url}/tokens", json=wanted, headers=headers).json()["secret"]
        for width in (360, 1040):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(url)
            if width == 360:
                page.get_by_label("Token").fill(secret)
                page.get_by_role("button", name="Use this token").click()
            who = page.get_by_text("reader1 (pathology-lab)")
            who.wait_for()
            assert who.get_attribute("title") == "May: predict"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        stored = page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]")
        assert stored == [1, 0, ""]

        page.goto(f"{url}/docs")  # in the same tab, with the token
        page.locator(".btn.authorize.locked").wait_for(timeout=60_000)  # it draws every route first
