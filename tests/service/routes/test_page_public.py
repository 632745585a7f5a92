"""The page lists what other tenants share under its public name, and asks it, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

TOKEN = "a-token-of-the-lab"


def test_what_others_share_is_listed_by_its_full_name_and_answers(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, listening: Listening
) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        operator = {"Authorization": f"Bearer {TOKEN}"}
        reader = {"name": "reader1", "tenant": "lab", "scopes": ["predict", "upload", "train"]}
        secret = httpx.post(f"{url}/tokens", json=reader, headers=operator).json()["secret"]
        for name, seed, headers in (
            ("cells", 1, operator),
            ("twice", 2, operator),
            ("mine", 2, {"Authorization": f"Bearer {secret}"}),
        ):
            labels = (f"{name}-a", f"{name}-b") if seed == 1 else ("a", "b")
            httpx.put(f"{url}/adapters/{name}", content=make_adapter(seed, labels), headers=headers).raise_for_status()
        for name, public in (("cells", "blood"), ("twice", "twice")):
            httpx.put(f"{url}/adapters/{name}/shared?as={public}", headers=operator).raise_for_status()

        page.goto(url)
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Use this token").click()
        page.get_by_text("Backbone test_resnet").wait_for()
        listed = page.locator("#adapters b").all_text_contents()
        assert listed == ["mine", "public/blood"]  # public/twice has the bytes of mine
        assert page.locator("#labelling select option").all_text_contents() == listed

        page.get_by_role("checkbox", name="public/blood").check()
        image: FilePayload = {"name": "cell.png", "mimeType": "image/png", "buffer": make_png(1)}
        page.locator("#files").set_input_files(image)
        page.get_by_role("heading", level=4, name="public/blood").wait_for()
        rows = page.locator(".score > span:first-child")
        assert sorted(rows.all_text_contents()) == ["cells-a", "cells-b"]
