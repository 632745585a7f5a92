"""The page's frame in a real Chromium: the bar of views, who one is, and the reference of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, Until

TOKEN = "a-token-of-the-lab"


def test_on_a_phone_the_bar_shows_the_present_view_also_after_tab_went_through_it(
    page: Page, make_parts: MakeParts, listening: Listening, until: Until
) -> None:
    seen = """() => {
        const [link, bar] = ["nav [aria-current]", "nav"].map((each) => document.querySelector(each)).
            map((each) => each?.getBoundingClientRect());
        return link && link.left >= bar.left && link.right <= bar.right;
    }"""
    with make_parts() as parts, listening(parts.app) as url:
        page.set_viewport_size({"width": 320, "height": 600})
        page.goto(f"{url}/#/server")
        until(lambda: page.evaluate(seen))
        assert page.evaluate("document.querySelector('nav').scrollLeft") > 0
        page.goto(f"{url}/#/ask")
        page.get_by_role("heading", name="What to ask").wait_for()
        until(lambda: page.evaluate(seen))
        page.get_by_role("link", name="Server").focus()
        assert not page.evaluate(seen)
        page.keyboard.press("Tab")
        until(lambda: page.evaluate(seen))


def test_docs_works_without_the_internet_and_can_send_a_request(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    with make_parts() as parts, listening(parts.app) as url:
        httpx.put(f"{url}/adapters/cells", content=make_adapter(1)).raise_for_status()
        page.goto(f"{url}/docs")
        page.get_by_text("Lensmount").first.wait_for()
        page.locator("#operations-health-ready_health_ready_get").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table").get_by_text('"test_resnet"').wait_for()
        assert page.locator(".opblock").count() >= 20  # every route of the API
    assert f"{url}/docs/swagger-ui-bundle.js" in requested
    assert [address for address in requested if not address.startswith((f"{url}/", "data:"))] == []


def test_the_corner_says_who_one_is_and_a_reader_sees_the_page_without_datasets(
    make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening, page: Page
) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        wanted = {"name": "reader1", "scopes": ["predict"], "tenant": "pathology-lab"}
        secret = httpx.post(f"{url}/tokens", json=wanted, headers=headers).json()["secret"]
        for width in (360, 1040):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(url)
            if width == 360:
                page.get_by_label("Token").fill(secret)
                page.get_by_role("button", name="Use this token").click()
            who = page.get_by_text("reader1 (pathology-lab)")
            who.wait_for()
            assert who.get_attribute("title") == "May: predict"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        stored = page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]")
        assert stored == [1, 0, ""]

        page.goto(f"{url}/docs")  # in the same tab, with the token
        page.locator(".btn.authorize.locked").wait_for(timeout=60_000)  # it draws every route first
