"""A real app in memory, with a small backbone and adapters whose scores differ by far more than rounding."""

from __future__ import annotations

import functools
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import fastapi.dependencies.models
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.browser import chromium as chromium  # fixtures
from tests.service.browser import listening as listening
from tests.service.browser import page as page
from tests.service.databases import database as database
from tests.service.databases import database_kind as database_kind
from tests.service.databases import database_url as database_url
from tests.service.databases import empty_database_url as empty_database_url
from tests.service.databases import postgresql as postgresql
from tests.service.databases import postgresql_with_tables as postgresql_with_tables
from tests.service.databases import reopen as reopen
from tests.service.known_machine import KnownMachine
from tests.service.object_store import make_bucket as make_bucket
from tests.service.object_store import moto as moto
from tests.service.object_store import s3 as s3
from tests.service.recorded import recorded as recorded  # a fixture

from lensmount_adapters import Backbone, Manifest, Preprocessing, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.graph.pooling import KIND
from lensmount_service import logs
from lensmount_service.build import Parts
from lensmount_service.settings import Settings

RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ADAPTED = ("layer3.0.conv1", "layer3.0.conv2", "layer4.0.conv1", "layer4.0.conv2")

# The types of the fixtures that are functions


class MakeAdapter(Protocol):
    def __call__(
        self, seed: int = 1, labels: tuple[str, ...] = ("a", "b"), name: str = "task", rule: Preprocessing = RULE
    ) -> bytes: ...


class MakeTrusted(Protocol):
    def __call__(self, **parts: Any) -> bytes: ...


class MakeParts(Protocol):
    def __call__(self, own: Backbone | None = None, **settings: Any) -> AbstractContextManager[Parts]: ...


class MakePng(Protocol):
    def __call__(self, seed: int = 0, size: tuple[int, int] = (48, 40)) -> bytes: ...


class MakeImages(Protocol):
    def __call__(self, folder: Path, labels: tuple[str, ...], each: int) -> None: ...


class Until(Protocol):
    def __call__(self, condition: Callable[[], object], seconds: float = 30) -> None: ...


class DrawImages(Protocol):
    def __call__(self, seed: int = 0, **counts: int) -> dict[str, bytes]: ...


class Zip(Protocol):
    def __call__(self, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes: ...


CompareAnswers = Callable[[Any, Any], bool]  # two JSON answers of POST /predict
ListPublished = Callable[[TestClient], list[dict[str, Any]]]


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    logs.configure(Settings(log_level="error"))


@pytest.fixture(autouse=True)
def _free_closed_apps() -> Iterator[None]:
    """FastAPI remembers the last 4,096 route functions, and with each the app's runner: 80 to 110 MB an app."""
    yield
    for cached in vars(fastapi.dependencies.models).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return _small_backbone()


@pytest.fixture
def fresh_backbone() -> Backbone:
    """A backbone that a test may damage."""
    return _small_backbone()


def _small_backbone() -> Backbone:
    """A runner measures its programs at the size of the backbone's rule: here at 64 instead of 160 pixels."""
    backbone = load_backbone("test_resnet", "random:0")
    backbone.preprocessing = RULE
    return backbone


@pytest.fixture(scope="session")
def make_adapter(backbone: Backbone, must_move_answer: Callable[..., object]) -> MakeAdapter:
    """`make_adapter(seed=1, labels=("a", "b"))` gives a valid adapter file that moves a score by 1e-3 or more."""

    @functools.cache
    def make(
        seed: int = 1, labels: tuple[str, ...] = ("a", "b"), name: str = "task", rule: Preprocessing = RULE
    ) -> bytes:
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[str, torch.Tensor] = {}
        for module in ADAPTED:
            delta = fresh_low_rank(backbone.targets[f"{module}.weight"], 4, 1.0, generator)
            for key, tensor in delta.tensors().items():
                tensors[key] = tensor if "lora_A" in key else torch.randn(tensor.shape, generator=generator) * 2
        tensors["head.weight"] = torch.randn(len(labels), backbone.feature_dim, generator=generator) / 2
        tensors["head.bias"] = torch.randn(len(labels), generator=generator)
        manifest = Manifest(
            name=name,
            method="lora",
            backbone=backbone.ref,
            preprocessing=rule,
            labels=labels,
            head=LinearHead(),
            modules={module: Factors(rank=4, alpha=4.0) for module in ADAPTED},
        )
        data = dump_adapter(manifest, tensors, torch.float32)
        must_move_answer(backbone, admit(data, backbone))
        return data

    return make


@pytest.fixture(scope="session")
def make_trusted(backbone: Backbone, draw_adapter: Any, draw_trust: Any) -> MakeTrusted:
    """`make_trusted(selective=None)`: labels "no" and "yes", trust as `draw_trust` draws it with these parts."""
    drawn, tensors = draw_trust(backbone, draw_adapter(backbone, modules=r"layer4\..*"), width=192)
    space = f"{backbone.fingerprint}|layer3_0_act3|{KIND}"
    quantiles = tuple(2000.0 * step for step in range(101))  # the distances of drawn images lie between
    seen = drawn.trust.familiarity.model_copy(update={"space": space, "quantiles": quantiles})

    def make(**parts: Any) -> bytes:
        trust = drawn.trust.model_copy(update={"familiarity": seen} | parts)
        kept = {name: tensor for name, tensor in tensors.items() if trust.familiarity or not name.startswith("trust.")}
        return dump_adapter(drawn.model_copy(update={"trust": trust}), kept)

    return make


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> KnownMachine:
    return KnownMachine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def make_parts(backbone: Backbone, machine: KnownMachine, tmp_path: Path) -> MakeParts:
    """`with make_parts(max_queue=4) as parts:` opens a server's parts on `tmp_path`."""
    return functools.partial(machine.open, tmp_path, backbone)


@pytest.fixture(scope="module")
def make_shared_parts(backbone: Backbone, machine: KnownMachine, tmp_path_factory: pytest.TempPathFactory) -> MakeParts:
    """Like `make_parts`, for the fixtures of a module. Each call opens a new state folder."""

    def make(own: Backbone | None = None, **settings: Any) -> AbstractContextManager[Parts]:
        return machine.open(tmp_path_factory.mktemp("shared"), backbone, own, **settings)

    return make


@pytest.fixture
def client(make_parts: MakeParts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """The app with the adapters `cells` (a, b) and `tiles` (x, y, z) uploaded."""
    with make_parts() as parts, _with_two_adapters(parts, make_adapter) as client:
        yield client


@pytest.fixture(scope="module")
def shared_client(make_adapter: MakeAdapter, make_shared_parts: MakeParts) -> Iterator[TestClient]:
    """Like `client`, but one app for all tests of a module that do not depend on what the others leave there."""
    with make_shared_parts(_small_backbone()) as parts, _with_two_adapters(parts, make_adapter) as client:
        yield client


@contextmanager
def _with_two_adapters(parts: Parts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    app: Any = parts.app
    if os.environ.get("LENSMOUNT_TEST_DOOR"):  # the same tests through the door of lensmount_service.ray
        from tests.service.ray.local_replicas import BehindADoor

        app = BehindADoor(app)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.put("/adapters/cells", content=make_adapter(1, ("a", "b"))).status_code == 201
        assert client.put("/adapters/tiles", content=make_adapter(2, ("x", "y", "z"))).status_code == 201
        yield client


def png(seed: int = 0, size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of soft random colours."""
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_png() -> MakePng:
    return png


@pytest.fixture(scope="session")
def published() -> Callable[[TestClient], list[dict[str, object]]]:
    """`published(client)` lists every adapter as registered, without the tier, which changes on its own."""

    def listed(client: TestClient) -> list[dict[str, Any]]:
        return [adapter | {"tier": None} for adapter in client.get("/adapters").json()["adapters"]]

    return listed


@pytest.fixture(scope="session")
def same_scores() -> CompareAnswers:
    """`same_scores(one, other)`: two predictions are equal except for the last bits, which depend on the tier."""

    def same(one: Any, other: Any) -> bool:
        first, second = ({p["label"]: p["score"] for p in answer["predictions"]} for answer in (one, other))
        return bool(first == pytest.approx(second, abs=1e-6))

    return same


@pytest.fixture(scope="session")
def other_scores() -> CompareAnswers:
    """`other_scores(one, other)`: two predictions with the same labels differ by more than 1e-3 in a score."""

    def differ(one: Any, other: Any) -> bool:
        first, second = ({p["label"]: p["score"] for p in answer["predictions"]} for answer in (one, other))
        return bool(max(abs(first[label] - second[label]) for label in first) > 1e-3)

    return differ


@pytest.fixture(scope="session")
def make_images() -> Callable[[Path, tuple[str, ...], int], None]:
    """`make_images(folder, ("a", "b"), 10)` fills class folders with images that differ in colour."""

    def make(folder: Path, labels: tuple[str, ...], each: int) -> None:
        for index, label in enumerate(labels):
            (folder / label).mkdir(parents=True)
            for number in range(each):
                pixels = np.random.default_rng(index * 1000 + number).integers(0, 120, (40, 40, 3), dtype=np.uint8)
                pixels[..., index % 3] += 120
                Image.fromarray(pixels).save(folder / label / f"{number}.png")

    return make


@pytest.fixture(scope="session")
def until() -> Until:
    """`until(lambda: path.exists(), seconds=20)` polls until the condition is true; it fails after `seconds`."""

    def wait(condition: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def images(make_png: MakePng) -> DrawImages:
    """`images(seed, a=3, b=2)` gives file names and PNGs, all different."""

    def draw(seed: int = 0, **counts: int) -> dict[str, bytes]:
        names = (f"{label}/{number}.png" for label, count in counts.items() for number in range(count))
        return {name: make_png(seed * 1000 + index) for index, name in enumerate(names)}

    return draw


@pytest.fixture(scope="session")
def zipped() -> Zip:
    """`zipped({"a/0.png": png})` gives the bytes of a zip file."""

    def pack(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return buffer.getvalue()

    return pack
