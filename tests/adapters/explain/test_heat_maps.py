"""Heat maps need an image that can be read; test_run_report.py draws those of a trained adapter."""

from __future__ import annotations

from typing import Any

from lensmount_adapters.explain.heat_maps import heat_maps


def test_volumes_have_no_heat_map_and_nothing_is_read(draw_manifest: Any) -> None:
    class Volumes:
        manifest = type("", (), {"preprocessing": None})

    def read(path: str) -> bytes:
        raise AssertionError(path)

    adapter: Any = Volumes()
    nothing: Any = None
    assert heat_maps(adapter, nothing, read)("a.nii") is None
