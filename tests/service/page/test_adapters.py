"""The page's adapters in a real Chromium: added, imported, aliased, tried, taken back, deleted and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from tests.service.page.axe import violations
from tests.service.peft_file import foreign

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, Until, Zip

    from lensmount_adapters import Backbone

HTTP = httpx.Client(timeout=60)
TOKEN = "a-token-of-the-lab"


def file(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def agree(page: Page, label: str, yes: str) -> None:
    """Press a button that asks, and say yes."""
    page.get_by_role("button", name=label, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=yes, exact=True).click()


def test_a_version_is_added_tried_under_an_alias_promoted_deleted_and_brought_back(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        aliases = f"{url}/adapters/cells/aliases/prod"
        for seed in (1, 2):
            HTTP.put(f"{url}/adapters/cells", content=make_adapter(seed)).raise_for_status()
        page.set_viewport_size({"width": 360, "height": 640})
        page.goto(f"{url}/#/adapters/cells/versions")

        page.get_by_role("button", name="Add a version").click()
        page.get_by_label("Drop an adapter file here").set_input_files(file("c.safetensors", make_adapter(3)))
        page.get_by_role("button", name="Upload as the next version of cells").click()
        page.get_by_text("cells version 3 is stored and answers now.").wait_for()
        page.get_by_label("New alias").fill("prod")
        page.get_by_label("points at").select_option("1")
        page.get_by_role("button", name="Set the alias").click()
        page.get_by_text("prod points at version 1").wait_for()
        assert HTTP.get(aliases).json()["version"] == 1

        HTTP.put(aliases, json={"version": 2}).raise_for_status()  # somebody else, meanwhile
        page.get_by_label("Version for prod").select_option("3")
        page.get_by_role("button", name="Move prod").click()
        page.get_by_text("The alias prod now points at version 2. Your change was not made.").wait_for()
        page.get_by_role("button", name="Show the present state").click()
        page.get_by_text("prod points at version 2").wait_for()
        assert HTTP.get(aliases).json()["version"] == 2
        assert violations(page) == []

        agree(page, "Delete version 1", "Delete")
        page.get_by_text("Version 1 was deleted.").wait_for()
        assert HTTP.get(f"{url}/adapters/cells").json()["versions"] == [2, 3]
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Version 1 is back.").wait_for()
        assert HTTP.get(f"{url}/adapters/cells").json()["versions"] == [1, 2, 3]

        page.get_by_role("link", name="Rollouts").click()
        page.get_by_label("Per cent of the requests").fill("12.5")
        page.get_by_role("button", name="Start", exact=True).click()
        page.locator(".view-head").get_by_text("prod: canary 3 gets 12.5 %").wait_for()
        page.get_by_text("Nothing to compare yet").wait_for()
        assert violations(page) == []
        agree(page, "Promote version 3", "Promote")
        page.get_by_text("cells:prod answers with version 3 now.").wait_for()
        assert HTTP.get(aliases).json()["version"] == 3
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("cells:prod answers with version 2 again.").wait_for()
        assert HTTP.get(aliases).json()["version"] == 2
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_rollout_shows_in_the_list_and_its_report_reads_like_text(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening, until: Until
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        for seed in (1, 2, 3):
            HTTP.put(f"{url}/adapters/cells", content=make_adapter(seed)).raise_for_status()
        rollout = {"stable": 1, "canary": {"version": 2, "percent": 12.5}, "shadow": {"version": 3}}
        HTTP.put(f"{url}/adapters/cells/aliases/prod", json=rollout).raise_for_status()
        page.goto(f"{url}/#/adapters")
        page.locator("#adapter-list").get_by_text("prod: canary 2 gets 12.5 %, shadow 3").wait_for()
        assert violations(page) == []

        page.get_by_role("link", name="cells", exact=True).click()
        page.get_by_text("It promises nothing about its answers").wait_for()
        page.get_by_role("link", name="Rollouts").click()
        page.get_by_text("Version 2 answers 12.5 % of the requests").wait_for()
        page.get_by_text("Version 3 computes all images along").wait_for()
        agree(page, "Roll back to version 1", "Roll back")
        page.get_by_text("cells:prod answers with version 1 alone.").wait_for()
        page.get_by_role("link", name="All adapters").click()
        assert page.locator("#adapter-list .badge").count() == 1  # where it is kept


def test_a_file_of_another_tool_is_imported_with_one_click_and_its_report(
    page: Page, make_parts: MakeParts, backbone: Backbone, zipped: Zip, listening: Listening
) -> None:
    with make_parts() as parts, listening(parts.app) as url:
        page.goto(f"{url}/#/adapters")
        page.get_by_role("heading", name="There are no adapters yet").wait_for()
        page.get_by_role("button", name="Add an adapter file").click()
        page.get_by_label("Drop an adapter file here").set_input_files(
            file("Their task.zip", foreign(backbone, zipped))
        )
        page.get_by_role("button", name="Upload as a new adapter").click()
        page.get_by_text("This is a zip file with an adapter of PEFT.").wait_for()
        page.get_by_role("button", name="Import it").click()
        page.get_by_text("It is a LoRA adapter of PEFT. It changes 1 module of this").wait_for(timeout=60_000)
        assert HTTP.get(f"{url}/adapters").json()["adapters"] == []
        page.get_by_label("Labels, in the order").fill("ring, none")
        page.get_by_role("button", name="Publish it").click()
        page.get_by_text("their-task version 1 answers now.").wait_for()
        assert violations(page) == []
        assert HTTP.get(f"{url}/adapters/their-task").json()["labels"] == ["ring", "none"]

        page.get_by_role("link", name="Open their-task").click()
        page.get_by_role("link", name="Export, share, delete").click()
        agree(page, "Delete their-task", "Delete it")
        page.get_by_text("their-task was deleted.").wait_for()
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("their-task is back").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download", exact=True).click()
        file_name = f"{url}/adapters/their-task/file"
        assert download.value.suggested_filename == "their-task-1.safetensors"
        assert download.value.path().read_bytes() == HTTP.get(file_name).content
        assert violations(page) == []


def test_what_others_share_is_listed_and_what_the_token_may_not_do_is_hidden(
    page: Page, make_parts: MakeParts, make_adapter: MakeAdapter, listening: Listening
) -> None:
    with make_parts(token=TOKEN) as parts, listening(parts.app) as url:
        operator = {"Authorization": f"Bearer {TOKEN}"}
        reader = {"name": "reader1", "tenant": "lab", "scopes": ["predict"]}
        secret = HTTP.post(f"{url}/tokens", json=reader, headers=operator).json()["secret"]
        for name, seed in (("cells", 1), ("twice", 2)):
            data = make_adapter(seed, labels=(f"<b>{name}", "no"))
            HTTP.put(f"{url}/adapters/{name}", content=data, headers=operator).raise_for_status()
        HTTP.put(f"{url}/adapters/cells/shared?as=blood", headers=operator).raise_for_status()

        page.goto(f"{url}/#/adapters")
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Use this token").click()
        page.get_by_role("heading", name="Adapters").wait_for()
        assert page.locator("#adapter-list .name-link").all_text_contents() == ["public/blood"]
        page.get_by_text("<b>cells, no").wait_for()
        assert not page.get_by_role("button", name="Add an adapter file").is_visible()
        page.get_by_role("link", name="public/blood").click()
        page.get_by_role("heading", name="What it promises").wait_for()
        assert not page.get_by_role("link", name="Rollouts").is_visible()
