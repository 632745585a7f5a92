"""Heat maps need an image that can be read; test_run_report.py draws those of a trained adapter."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from lensmount_adapters import admit, load_backbone
from lensmount_adapters.explain.heat_maps import heat_maps


def test_volumes_have_no_heat_map_and_nothing_is_read(draw_manifest: Any) -> None:
    class Volumes:
        manifest = type("", (), {"preprocessing": None})

    def read(path: str) -> bytes:
        raise AssertionError(path)

    adapter: Any = Volumes()
    nothing: Any = None
    assert heat_maps(adapter, nothing, read)("a.nii") is None


def test_a_network_that_cannot_be_explained_is_tried_with_one_image_only(
    draw_adapter: Callable[..., Any],
) -> None:
    vit, buffer = load_backbone("test_vit", "random:0"), io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    adapter, asked = admit(draw_adapter(vit).dump(), vit), list[str]()

    def read(path: str) -> bytes:
        asked.append(path)
        return buffer.getvalue()

    drawn = heat_maps(adapter, vit, read)
    assert [drawn(path) for path in ("a.png", "b.png", "c.png")] == [None, None, None]
    assert asked == ["a.png"]
