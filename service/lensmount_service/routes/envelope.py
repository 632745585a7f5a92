"""How a protocol carries a prediction: where a request has its images, and in which form it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from lensmount_adapters.adapter.manifest import SegmentationHead
from lensmount_adapters.backbone.names import is_of_volumes
from lensmount_service.errors import RequestInvalid
from lensmount_service.routes.context import AppContext
from lensmount_service.store.catalog import Snapshot
from lensmount_service.web.bodies import Part, is_multipart, read_multipart, read_raw
from lensmount_service.web.masks import FORMS
from lensmount_service.web.negotiation import JSON, negotiate


class Envelope(Protocol):
    """What differs between the routes that answer predictions. It is asked once the adapters are known."""

    def form(self, request: Request, snapshots: Sequence[Snapshot]) -> str:
        """JSON, or the media type of masks without JSON. Raises NotAcceptable."""
        ...

    async def images(self, request: Request, snapshots: Sequence[Snapshot]) -> list[Part]:
        """The images of the body, at least one. Raises BodyTooLarge, and RequestError for a body that has none."""
        ...


@dataclass(frozen=True, slots=True)
class PlainEnvelope:
    """That of POST /predict: the raw body or parts named `file`; JSON, or masks alone."""

    context: AppContext

    def form(self, request: Request, snapshots: Sequence[Snapshot]) -> str:
        """Masks without JSON are offered only for a single segmentation adapter.

        In all other cases the response is JSON whatever `Accept` says, unless it asks for masks.
        """
        accept = request.headers.get("accept")
        if len(snapshots) == 1 and gives_masks(snapshots[0]):
            return negotiate(accept, list(FORMS), f"{snapshots[0].version.name} gives masks")
        if accept and any(form in accept.lower() for form in FORMS if form != JSON):
            several = "several adapters are answered in one JSON document"
            single = f"{snapshots[0].version.name} gives labels, not masks"
            return negotiate(accept, [JSON], several if len(snapshots) > 1 else single)
        return JSON

    async def images(self, request: Request, snapshots: Sequence[Snapshot]) -> list[Part]:
        settings = self.context.settings
        if is_multipart(request):
            parts, fields = await read_multipart(request, settings.max_request_bytes, settings.max_files)
            if fields:
                raise RequestInvalid(f"found the field {min(fields)[:40]!r}, expected only parts named `file`")
            return parts
        return [Part(await read_raw(request, max_input_bytes(self.context)), None)]


def gives_masks(snapshot: Snapshot) -> bool:
    return isinstance(snapshot.adapter.manifest.head, SegmentationHead)


def max_input_bytes(context: AppContext) -> int:
    """How large an image may be, or a volume on a backbone of volumes."""
    settings = context.settings
    return settings.max_volume_bytes if is_of_volumes(context.engine.backbone.name) else settings.max_image_bytes
