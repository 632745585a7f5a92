"""The heat map of a notebook has the pixels and colours that `Explanation.save` draws."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from lensmount_client._html.heat import OPACITY, colour, heat_svg, shades


def test_the_map_is_one_pixel_per_value_and_clear_where_nothing_speaks_for_the_label() -> None:
    values = ((0.0, 2.0, 1.0), (-3.0, 0.5, 1.5))
    svg = heat_svg(b"", values, (200, 300), (10, 20, 290, 180), "why")
    (found,) = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))
    assert pixels.shape == (2, 3, 4)
    assert [int(alpha) for alpha in pixels[..., 3].ravel()] == [round(OPACITY * shade) for shade in shades(values)]
    assert tuple(pixels[0, 1, :3]) == colour(255) == (198, 20, 40)
    assert 'x="10" y="20" width="280" height="160"' in svg


def test_colours_go_from_yellow_through_orange_to_red() -> None:
    assert [colour(shade) for shade in (0, 128, 255)] == [(255, 213, 79), (245, 124, 0), (198, 20, 40)]
    assert shades(((0.0, -1.0),)) == [0, 0]
