"""Heat maps of an adapter's own answers, drawn over the images of a report."""

from __future__ import annotations

from collections.abc import Callable

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExplainError, LensmountError
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
    call also copies the network's tree of modules.
    """
    rule, limits = adapter.manifest.preprocessing, limits or ImageLimits()
    explainer: Explainer | None = Explainer(backbone)

    def drawn(path: str) -> bytes | None:
        nonlocal explainer
        if explainer is None or not isinstance(rule, Preprocessing):
            return None
        try:
            image = decode_image(read(path), limits)
            return overlay(image, explainer.explain(adapter, preprocess(image, rule), "cam").values, rule)
        except ExplainError:
            explainer = None  # no image of this adapter can be explained
            return None
        except (LensmountError, OSError):
            return None

    return drawn
