"""A new user at the page in a real Chromium: the whole story with a real server, and quickly with a stand-in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from tests.service.page.worker import TREES, train

from lensmount_adapters import dump_adapter
from lensmount_adapters.graph.pooling import KIND

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeParts, Until

    from lensmount_adapters import Backbone

newcomer = pytest.importorskip("tests.service.page.newcomer", reason='needs playwright: pip install "lensmount[dev]"')


def test_a_newcomer_teaches_asks_corrects_compares_promotes_rolls_back_and_exports(
    page: Page, make_parts: MakeParts, listening: Listening, backbone: Backbone, draw_adapter: Any, draw_trust: Any
) -> None:
    versions = iter(range(2, 4))

    def drawn() -> bytes:
        """An adapter to which every image is unfamiliar."""
        parts = draw_adapter(backbone, modules=r"layer4\..*", labels=TREES, seed=next(versions))
        manifest, tensors = draw_trust(backbone, parts, width=192)
        space = f"{backbone.fingerprint}|layer3_0_act3|{KIND}"
        unlike = manifest.trust.familiarity.model_copy(update={"space": space, "flag": 0.01})
        trust = manifest.trust.model_copy(update={"conformal": None, "operating": None, "familiarity": unlike})
        means = torch.randn(len(TREES), 192, generator=torch.Generator().manual_seed(1))
        return dump_adapter(manifest.model_copy(update={"trust": trust}), tensors | {"trust.means": means})

    with make_parts(feedback="on") as parts, listening(parts.app) as url:
        page.set_viewport_size({"width": 360, "height": 640})
        page.emulate_media(color_scheme="dark")
        person = newcomer.Newcomer(page, url, newcomer.Mouse(), lambda: train(parts, url, drawn()), patience_ms=120_000)
        person.faults = lambda page: []  # the tests of the views have axe-core look at them
        assert person.does_everything("lensmount") == "leaves-3.safetensors"
        page.goto("about:blank")  # nothing is asked of the server when it stops


@pytest.mark.soak
@pytest.mark.parametrize(
    ("width", "scheme", "hand"),
    [(1280, "light", "Mouse"), (360, "dark", "Mouse"), (1280, "dark", "Keyboard"), (360, "light", "Keyboard")],
)
def test_a_newcomer_gets_from_the_empty_page_to_an_exported_adapter_of_a_real_server(
    chromium: Browser, tmp_path: Path, until: Until, width: int, scheme: Any, hand: str
) -> None:
    with served(tmp_path, until) as url:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        person = newcomer.Newcomer(context.new_page(), url, getattr(newcomer, hand)(), patience_ms=300_000)
        assert person.does_everything("onnx") == "leaves-3-onnx.zip"
        person.drops(forty_images(tmp_path / "forty"))
        context.close()
    assert person.clicks_until_live <= 8
    print(person.seconds)  # noqa: T201  # the figures of the run, shown under -s


def forty_images(folder: Path) -> Path:
    """20 drawn leaves of each of two trees, with sides of 224 to 512 pixels."""
    for number, drawn in enumerate(sorted((newcomer.SAMPLES / "train").glob("[bo]*/*"))):
        (folder / drawn.parent.name).mkdir(parents=True, exist_ok=True)
        side = 224 + number * 288 // 39
        Image.open(drawn).resize((side, side)).save(folder / drawn.parent.name / f"{drawn.stem}.png")
    return folder


@contextmanager
def served(state: Path, until: Until) -> Iterator[str]:
    """`lensmount serve --with-worker` on the default backbone. It keeps images of answers. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lensmount_client", "serve", "--with-worker", "--port", str(port)]
    log, kept = state / "log", os.environ | {"LENSMOUNT_FEEDBACK": "on"}
    with log.open("w") as said:
        server = subprocess.Popen([*command, "--state", str(state)], stdout=said, stderr=said, env=kept)
    try:
        until(lambda: server.poll() is not None or "Ready at" in log.read_text(), 300)
        assert server.poll() is None, log.read_text()[-2000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        code = server.wait(300)
    assert code == 0, log.read_text()[-2000:]
