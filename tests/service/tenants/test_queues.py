"""Whatever a request costs takes the turns of its caller and is charged to it, also what runs in the background."""

from __future__ import annotations

import ast
import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lensmount_service.routes
from lensmount_service.engine.engine import Engine
from lensmount_service.engine.fair_pool import FairPool

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, MakeAdapter, MakePng, Until
    from tests.service.tenants.conftest import Limited, MakeLimited

ROUTES = Path(lensmount_service.routes.__file__).parent
CHOICES = '<Choices name="label" toName="image"><Choice value="a"/></Choices>'
CONFIG = f'<View><Image name="image" value="$image"/>{CHOICES}</View>'
WIDTH, HEIGHT = 48, 40  # of the images of the fixtures
CANARIES = 4 * 64 * 64  # test images of an upload, at the size of the adapters' rule


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Who had work in the engine, the decoders and the checks of archives."""
    seen: set[str] = set()
    lock = threading.Lock()

    def watch(owner: type, method: str, caller_of: Callable[[tuple[Any, ...], dict[str, Any]], str]) -> None:
        original = getattr(owner, method)

        def noted(self: Any, *arguments: Any, **options: Any) -> Any:
            with lock:
                seen.add(caller_of(arguments, options))
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, method, noted)

    def third(arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
        return str(options.get("caller", arguments[2] if len(arguments) > 2 else ""))

    watch(Engine, "submit_many", third)
    watch(Engine, "submit_for_maps", lambda arguments, options: str(options.get("caller", (*arguments, "")[3])))
    watch(FairPool, "submit_for", lambda arguments, options: str(arguments[0][0]))
    return seen


def task(image: bytes) -> dict[str, Any]:
    return {"data": {"image": f"data:image/png;base64,{base64.b64encode(image).decode()}"}}


def scored(reader1: Limited, until: Until) -> None:
    """Ask for the next images until they are computed."""

    def done() -> bool:
        answer = reader1.ask("POST", "/datasets/pool/next?adapter=cells&who=reader1&strategy=margin")
        assert answer.status_code in (200, 202), answer.text
        return bool(answer.status_code == 200)

    until(done)


def test_every_costly_request_takes_the_turns_of_its_caller(
    limited: MakeLimited,
    callers: set[str],
    make_adapter: MakeAdapter,
    make_png: MakePng,
    images: DrawImages,
    archive: bytes,
    until: Until,
) -> None:
    reader1 = limited(pixels_per_minute=10**12)
    labelstudio = {"label_config": CONFIG, "tasks": [task(make_png(1)), task(make_png(2))], "project": "1"}
    pool = "/datasets/pool/unlabelled?who=reader1"
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "/adapters/cells", {"content": make_adapter(1)}),
        ("POST", "/predict?adapter=cells", {"content": make_png(1)}),
        ("POST", "/explain?adapter=cells", {"content": make_png(1)}),
        ("POST", "/explain?adapter=cells&method=layercam", {"content": make_png(1)}),
        ("POST", "/integrations/labelstudio/cells/predict", {"json": labelstudio}),
        ("PUT", "/datasets/slides", {"content": archive}),
        ("PATCH", "/datasets/slides/items", {"json": {"exclude": ["a/0.png"]}}),
        ("POST", pool, {"content": images(1, c=1)["c/0.png"]}),
    ]
    for method, path, options in requests:
        answer = reader1.ask(method, path, **options)
        assert answer.status_code in (200, 201), (path, answer.text)
    assert reader1.ask("POST", "/adapters/other/import", content=b"no adapter").status_code >= 400
    scored(reader1, until)

    assert callers == {reader1.key}


def test_the_pixels_of_each_are_charged(
    limited: MakeLimited, make_adapter: MakeAdapter, make_png: MakePng, images: DrawImages, archive: bytes, until: Until
) -> None:
    reader1 = limited(pixels_per_minute=10**12)  # of which a minute's refill of 10 s would be seen
    pixels = WIDTH * HEIGHT

    def cost(method: str, path: str, **options: Any) -> float:
        """Of a request, in pixels: what the limit is charged is paid off, so each has a token of its own."""
        own = limited(reader1.tenant, pixels_per_minute=10**6)
        answer = own.ask(method, path, **options)
        assert answer.status_code in (200, 201), (path, answer.text)
        return own.used("pixels_per_minute")

    def about(expected: float) -> Any:
        return pytest.approx(expected, abs=2 * 10**6 / 60)  # what is paid off in two seconds

    reader1.ask("PUT", "/adapters/cells", content=make_adapter(1))
    tasks = [task(make_png(n, (400, 300))) for n in range(3)]
    labelstudio = {"label_config": CONFIG, "tasks": tasks, "project": "1"}
    assert cost("POST", "/integrations/labelstudio/cells/predict", json=labelstudio) == about(3 * 400 * 300)
    large = make_png(1, (600, 500))
    assert cost("POST", "/explain?adapter=cells", content=large) == about(600 * 500)
    added = reader1.ask("POST", "/datasets/pool/unlabelled?who=reader1", content=large).json()["images"][0]["digest"]
    assert cost("GET", f"/datasets/pool/unlabelled/{added}?side=64") == about(600 * 500)
    assert pixels < CANARIES


def test_test_images_of_an_upload_are_charged(limited: MakeLimited, make_adapter: MakeAdapter) -> None:
    reader1 = limited(pixels_per_minute=CANARIES)
    assert reader1.ask("PUT", "/adapters/cells", content=make_adapter(1)).status_code == 201

    refused = reader1.ask("PUT", "/adapters/cells", content=make_adapter(2))

    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert 50 <= int(refused.headers["Retry-After"]) <= 60
    small = limited(reader1.tenant, pixels_per_minute=CANARIES - 1)
    assert small.ask("PUT", "/adapters/tiles", content=make_adapter(2)).json()["code"] == "batch_too_large"
    assert [each["name"] for each in reader1.ask("GET", "/adapters").json()["adapters"]] == ["cells"]


def test_a_pool_is_scored_as_far_as_the_quota_of_who_asks_allows(
    limited: MakeLimited, make_adapter: MakeAdapter, images: DrawImages, until: Until
) -> None:
    boss = limited()
    boss.ask("PUT", "/adapters/cells", content=make_adapter(1))
    for data in images(7, c=12).values():
        boss.ask("POST", "/datasets/pool/unlabelled?who=reader1", content=data)
    reader1 = limited(boss.tenant, pixels_per_minute=5 * WIDTH * HEIGHT)
    asked = "/datasets/pool/next?adapter=cells&who=reader1&strategy=margin"

    until(lambda: reader1.ask("POST", asked).status_code == 429)

    refused = reader1.ask("POST", asked)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    scored(boss, until)


def test_a_small_share_of_the_queue_slows_label_studio_down_and_refuses_nothing(
    limited: MakeLimited, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    reader1 = limited(queue_share=0.001)
    reader1.ask("PUT", "/adapters/cells", content=make_adapter(1))
    body = {"label_config": CONFIG, "tasks": [task(make_png(n)) for n in range(6)], "project": "1"}

    answer = reader1.ask("POST", "/integrations/labelstudio/cells/predict", json=body)

    assert (answer.status_code, len(answer.json()["results"])) == (200, 6)
    assert reader1.used("queue_share") == 0


def test_more_tasks_than_a_minute_allows_are_refused_at_once_and_for_good(
    limited: MakeLimited, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    reader1 = limited(pixels_per_minute=CANARIES + 3 * WIDTH * HEIGHT)
    reader1.ask("PUT", "/adapters/cells", content=make_adapter(1))
    body = {"label_config": CONFIG, "tasks": [task(make_png(n)) for n in range(20)], "project": "1"}

    answer = reader1.ask("POST", "/integrations/labelstudio/cells/predict", json=body)

    assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")


def test_no_route_reaches_the_engine_or_the_decoders_without_saying_for_whom() -> None:
    """Besides predictions, whose calls name the caller: see routes/predict.py, and routes/decoding.py for it."""
    ways = {"submit_many", "submit_for_maps", "submit_for", "run_in_executor"}
    found = {
        path.name
        for path in ROUTES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ways or ast.unparse(node.func).endswith("engine.submit")
    }
    assert found <= {"predict.py", "decoding.py"}
