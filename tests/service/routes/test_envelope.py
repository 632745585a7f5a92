"""What an envelope may decide, on a server with a route of its own for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.testclient import TestClient

from lensmount_service.routes.envelope import max_input_bytes
from lensmount_service.routes.outcomes import Wanted
from lensmount_service.routes.predict import Predictor
from lensmount_service.web.bodies import Part

if TYPE_CHECKING:
    from tests.service.conftest import MakePng


class OneFixedImage:
    """Whatever the body is, the image is this one."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.asked: list[str] = []

    def form(self, request: Request, snapshots: Sequence[Any]) -> str:
        self.asked.append("form")
        return "application/json"

    async def images(self, request: Request, snapshots: Sequence[Any]) -> list[Part]:
        self.asked.append(f"images for {', '.join(snapshot.title.partition(' ')[0] for snapshot in snapshots)}")
        return [Part(self.image, None)]


def test_the_images_of_an_envelope_are_computed_as_those_of_predict(
    shared_client: TestClient, make_png: MakePng
) -> None:
    app: Any = shared_client.app
    envelope = OneFixedImage(make_png(3))

    async def fixed(request: Request) -> Any:
        predictor = Predictor(app.state.context)
        outcomes = await predictor.compute(request, Wanted("tiles,cells"), envelope)
        return [each.model_dump() for each in predictor.told(request, outcomes)]

    app.post("/fixed")(fixed)

    told = shared_client.post("/fixed", content=b"").json()
    expected = shared_client.post("/predict?adapter=tiles,cells", content=make_png(3)).json()["results"]
    assert [each["predictions"] for each in told] == [each["predictions"] for each in expected]
    assert envelope.asked == ["form", "images for tiles@1, cells@1"]


def test_an_image_may_be_as_large_as_the_limits_say(shared_client: TestClient) -> None:
    app: Any = shared_client.app
    assert max_input_bytes(app.state.context) == shared_client.get("/limits").json()["max_image_bytes"]
