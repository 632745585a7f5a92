"""The page says which version is tried, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts


def test_an_adapter_with_a_rollout_has_a_badge_for_its_alias(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        for seed in (1, 2, 3):
            httpx.put(f"{url}/adapters/cells", content=make_adapter(seed)).raise_for_status()
        rollout = {"stable": 1, "canary": {"version": 2, "percent": 12.5}, "shadow": {"version": 3}}
        httpx.put(f"{url}/adapters/cells/aliases/prod", json=rollout).raise_for_status()
        page.goto(url)
        page.get_by_text("prod: canary 2 gets 12.5 %, shadow 3").wait_for()
        httpx.post(f"{url}/adapters/cells/rollouts/prod/rollback").raise_for_status()
        page.reload()
        page.get_by_text("Backbone test_resnet").wait_for()
        assert page.locator("#adapters .badge").count() == 1  # where it is kept
