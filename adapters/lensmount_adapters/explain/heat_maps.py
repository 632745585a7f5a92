"""Heat maps of an adapter's own answers, drawn over the images of a report."""

from __future__ import annotations

from collections.abc import Callable

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import LensmountError
from lensmount_adapters.explain.explainer import Explainer
from lensmount_adapters.explain.overlay import overlay
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.rules import Preprocessing


def heat_maps(
    adapter: Adapter, backbone: Backbone, read: Callable[[str], bytes], limits: ImageLimits | None = None
) -> Callable[[str], bytes | None]:
    """From a path to the PNG of its image with what speaks for the best label (explain/cam.py).

    The function gives None for images that cannot be read, and for networks that the method cannot explain. The first
    call takes about half a second on a CPU, the others as long as a prediction.
    """
    explainer, limits = Explainer(backbone), limits or ImageLimits()

    def drawn(path: str) -> bytes | None:
        rule = adapter.manifest.preprocessing
        if not isinstance(rule, Preprocessing):
            return None
        try:
            image = decode_image(read(path), limits)
            return overlay(image, explainer.explain(adapter, preprocess(image, rule), "cam").values, rule)
        except (LensmountError, OSError):
            return None

    return drawn
