"""The list of adapters in Ask: what others share, and aliases with a rollout, in a real Chromium."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

ask = functools.partial(httpx.request, timeout=60)  # a loaded machine answers late
TOKEN = "a-token-of-the-lab"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


def test_what_others_share_is_listed_by_its_full_name_and_answers(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        reader = {"name": "reader1", "tenant": "lab", "scopes": ["predict", "upload", "train"]}
        secret = ask("POST", f"{url}/tokens", json=reader, headers=OPERATOR).json()["secret"]
        for name, seed, headers in (
            ("cells", 1, OPERATOR),
            ("twice", 2, OPERATOR),
            ("mine", 2, {"Authorization": f"Bearer {secret}"}),
        ):
            labels = (f"{name}-a", f"{name}-b") if seed == 1 else ("a", "b")
            ask("PUT", f"{url}/adapters/{name}", content=make_adapter(seed, labels), headers=headers).raise_for_status()
        for name, public in (("cells", "blood"), ("twice", "twice")):
            ask("PUT", f"{url}/adapters/{name}/shared?as={public}", headers=OPERATOR).raise_for_status()

        page.goto(url)
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Use this token").click()
        page.locator("#adapters li").first.wait_for()
        assert page.locator("#adapters b").all_text_contents() == ["mine", "public/blood"]  # public/twice is mine

        page.get_by_role("checkbox", name="mine").uncheck()
        page.get_by_role("checkbox", name="public/blood").check()
        page.locator("#files").set_input_files({"name": "cell.png", "mimeType": "image/png", "buffer": make_png(1)})
        page.get_by_role("heading", level=4, name="public/blood").wait_for()
        shown = page.locator(".card .score > span:first-child").all_text_contents()
        assert sorted(shown) == ["cells-a", "cells-b"]


def test_an_adapter_with_a_rollout_has_a_badge_for_its_alias(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        for seed in (1, 2, 3):
            ask("PUT", f"{url}/adapters/cells", content=make_adapter(seed)).raise_for_status()
        rollout = {"stable": 1, "canary": {"version": 2, "percent": 12.5}, "shadow": {"version": 3}}
        ask("PUT", f"{url}/adapters/cells/aliases/prod", json=rollout).raise_for_status()
        page.goto(url)
        page.get_by_text("prod: canary 2 gets 12.5 %, shadow 3").wait_for()
        ask("POST", f"{url}/adapters/cells/rollouts/prod/rollback").raise_for_status()
        page.reload()
        page.locator("#adapters li").wait_for()
        assert page.locator("#adapters .badge").count() == 0
