"""The page's view of the server in a real Chromium: health, limits, integrity, tokens and who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from tests.service.page.axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeParts

HTTP = httpx.Client(timeout=60)
TOKEN = "a-token-of-the-lab"


def enter(page: Page, secret: str) -> None:
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Use this token").click()
    page.get_by_role("heading", name="Server").wait_for()


def test_an_operator_checks_the_weights_makes_a_token_and_reads_who_did_what(
    page: Page, make_parts: MakeParts, listening: Listening
) -> None:
    with make_parts(token=TOKEN, max_image_bytes=3 * 2**20) as parts, listening(parts.app) as url:
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(f"{url}/#/server")
        enter(page, TOKEN)
        page.get_by_text("It answers, and it stores what you upload.").wait_for()
        page.get_by_role("button", name="Check now").click()
        page.get_by_text("tensors of the network are bit for bit what they were at the start").wait_for()
        assert violations(page) == []
        page.get_by_role("link", name="Limits").click()
        page.get_by_text("3 MiB", exact=True).wait_for()

        page.get_by_role("link", name="Tokens").click()
        page.get_by_label("Name").fill("reader1")
        page.get_by_label("upload images and train").check()
        page.get_by_role("button", name="Make the token").click()
        secret = page.get_by_label("The secret of reader1", exact=True).inner_text()
        headers = {"Authorization": f"Bearer {secret}"}
        assert HTTP.get(f"{url}/whoami", headers=headers).json()["scopes"] == ["predict", "train"]
        assert violations(page) == []
        page.get_by_role("button", name="I have it").click()
        assert secret not in page.content()
        row = page.locator("#tokens > li", has_text="reader1")
        row.get_by_role("button", name="Revoke reader1").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke", exact=True).click()
        row.wait_for(state="detached")
        assert HTTP.get(f"{url}/whoami", headers=headers).status_code == 401

        parts.app.state.audit.flush()
        page.get_by_role("link", name="Who did what").click()
        page.get_by_text("revoked a token").wait_for()
        deeds = page.locator("tbody td:nth-child(3)").all_text_contents()
        assert deeds.index("revoked a token") < deeds.index("made a token")  # the newest first
        page.get_by_label("Find a person").fill("made a token")
        page.get_by_text("1 record", exact=True).wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as CSV").click()
        lines = download.value.path().read_text().splitlines()
        assert len(lines) == 2
        assert '"POST /tokens"' in lines[1]
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert violations(page) == []


def test_a_reader_sees_health_and_limits_and_no_more(page: Page, make_parts: MakeParts, listening: Listening) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        reader = {"name": "reader1", "tenant": "lab", "scopes": ["predict"], "quotas": {"requests_per_minute": 600}}
        operator = {"Authorization": f"Bearer {TOKEN}"}
        secret = HTTP.post(f"{url}/tokens", json=reader, headers=operator).json()["secret"]
        page.goto(f"{url}/#/server/audit")
        enter(page, secret)
        page.get_by_text("Requests a minute").wait_for()
        page.get_by_text("ask adapters", exact=True).wait_for()
        tabs = page.get_by_role("navigation", name="About this server").get_by_role("link")
        assert tabs.all_text_contents() == ["Health", "Limits"]
        assert not page.get_by_role("button", name="Check now").is_visible()
