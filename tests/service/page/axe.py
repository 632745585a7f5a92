"""Accessibility of what a tab shows now, checked by axe-core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page


def violations(page: Page) -> list[str]:
    """What axe-core finds in light and dark colours: one `scheme, rule: selectors` per rule. Empty if all is well."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        rules = Axe().run(page).response["violations"]
        found += [
            f"{scheme}, {rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'])}" for rule in rules
        ]
    page.emulate_media(color_scheme="null")
    return found
