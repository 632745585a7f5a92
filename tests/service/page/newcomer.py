"""The story of a new user at the page: from the drawn leaves to an adapter that is trained, corrected and exported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from playwright.sync_api import Error, expect
from tests.service.page.axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SAMPLES = Path(__file__).parents[3] / "samples"
TRY = "Try this: 60 drawn leaves of three trees"
MOST_TABS = 400  # presses of Tab until a control is reached; more mean that the keyboard does not get there
VIEWS = ("Ask", "Teach", "Correct", "Adapters", "Jobs", "Datasets", "Server")


class Hand(Protocol):
    """How a person uses controls. `clicks` counts what was pressed or chosen."""

    clicks: int

    def press(self, control: Locator) -> None: ...

    def choose(self, field: Locator, option: str) -> None: ...

    def write(self, field: Locator, text: str) -> None: ...


class Mouse:
    clicks = 0

    def press(self, control: Locator) -> None:
        control.click()
        self.clicks += 1

    def choose(self, field: Locator, option: str) -> None:
        field.select_option(option)
        self.clicks += 1

    def write(self, field: Locator, text: str) -> None:
        field.fill(text)


class Keyboard:
    """Tab, Enter, arrows and letters alone."""

    clicks = 0

    def press(self, control: Locator) -> None:
        self._reach(control)
        control.page.keyboard.press("Enter")
        self.clicks += 1

    def choose(self, field: Locator, option: str) -> None:
        self._reach(field)
        place = "(field, option) => [...field.options].findIndex((each) => each.value === option) - field.selectedIndex"
        steps = field.evaluate(place, option)
        for _ in range(abs(steps)):
            field.page.keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
        expect(field).to_have_value(option)
        self.clicks += 1

    def write(self, field: Locator, text: str) -> None:
        self._reach(field)
        field.page.keyboard.press("Control+a")
        field.page.keyboard.type(text)

    def _reach(self, control: Locator) -> None:
        expect(control).to_be_enabled()
        for _ in range(MOST_TABS):
            if control.evaluate("control => control === document.activeElement"):
                return
            control.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {control}")


@dataclass
class Newcomer:
    """One person at one tab. Every method is a step; a failure says which step it was and what the page showed."""

    page: Page
    url: str
    hand: Hand
    train: Callable[[], Iterator[None]] = lambda: iter(())  # what stands for a worker, if none runs, in two steps
    patience_ms: int = 20_000  # for a training
    seconds: dict[str, float] = field(default_factory=dict)
    looked: Callable[[str], None] = lambda step: None  # called after each step, such as for a screenshot
    complaints: list[str] = field(default_factory=list)
    clicks_until_live: int = 0
    faults: Callable[[Page], list[str]] = violations  # of a view; axe-core needs most of a second for each

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self._stays_here(request.url))

    def _stays_here(self, address: str) -> None:
        if urlsplit(address).scheme not in ("blob", "data") and not address.startswith(f"{self.url}/"):
            self.complaints.append(f"a request to another host: {address}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
            assert not self.complaints, self.complaints
            wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"the page is {wide} pixels wider than the window"
        except (AssertionError, Error) as error:
            shown = self.page.locator("#main").inner_text() if self.page.locator("#main").count() else ""
            error.add_note(f"The new user failed at: {name}\nat {self.page.url}\nThe page shows:\n{shown[:1500]}")
            raise
        self.seconds[name] = time.perf_counter() - started
        self.looked(name)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def go(self, view: str) -> None:
        self.hand.press(self.page.get_by_label("Views").get_by_role("link", name=view, exact=True))

    def choose_files(self, control: Locator, files: list[Path]) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.hand.press(control)
        chooser.value.set_files(files)

    def agree(self, label: str, yes: str) -> None:
        self.hand.press(self.button(label))
        self.hand.press(self.page.get_by_role("dialog").get_by_role("button", name=yes, exact=True))

    def said(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    # The steps, in their order

    def teaches(self) -> None:
        with self.step("opens the page"):
            self.page.goto(f"{self.url}/")
            expect(self.page.get_by_role("heading", name="What to ask")).to_be_visible()
        with self.step("teaches the leaves"):
            self.go("Teach")
            self.hand.press(self.button(TRY))
            self.said("Ready.")
            self.hand.press(self.button("Teach"))
        with self.step("gets a first draft"):
            expect(self.page.get_by_text("First draft live")).to_be_visible(timeout=self.patience_ms)

    def watches(self) -> None:
        with self.step("watches the training"):
            self.live()
        self.clicks_until_live = self.hand.clicks

    def live(self) -> None:
        steps = self.train()
        next(steps, None)
        expect(self.page.locator(".curves polyline").first).to_be_attached(timeout=self.patience_ms)
        next(steps, None)
        expect(self.page.get_by_role("heading", name="leaves is live, as version")).to_be_visible(
            timeout=self.patience_ms
        )

    def asks(self) -> None:
        with self.step("asks about drawn leaves"):
            self.hand.press(self.page.get_by_role("link", name="Ask it"))
            self.hand.press(self.button("Try with drawn samples"))
            expect(self.page.locator(".card .verdict")).to_have_count(3)
        with self.step("gets an unfamiliar image flagged"):
            self.choose_files(self.page.get_by_label("Choose images"), [SAMPLES / "street.jpg"])
            street = self.page.get_by_role("article", name="street.jpg")
            expect(street.locator(".verdict")).to_be_visible()
            expect(street.locator(".trust")).to_have_text("unlike the images this was trained on")

    def corrects(self) -> None:
        with self.step("corrects an answer"):
            card = self.page.get_by_role("article", name="leaf-oak.png")
            self.hand.press(card.get_by_role("button", name="Wrong? Say what it is"))
            self.hand.choose(card.get_by_label("It is"), "oak")
            self.hand.write(card.get_by_label("Your name"), "newcomer")
            self.hand.press(card.get_by_role("button", name="Send"))
            expect(card.get_by_text("Thank you: oak.")).to_be_visible()

    def retrains(self) -> None:
        with self.step("retrains from the correction"):
            self.go("Correct")
            self.said("1 image corrected.")
            self.hand.press(self.button("Retrain from the corrections"))
            expect(self.page.get_by_role("heading", name="Learning from the corrections")).to_be_visible()
            self.live()

    def compares(self) -> None:
        with self.step("compares two versions"):
            self.go("Ask")
            self.hand.press(self.button("Compare with another version"))
            card = self.page.get_by_role("article", name="leaf-oak.png")
            expect(card.locator(".result")).to_have_count(2)
            expect(card.locator(".agreement")).to_contain_text("Versions 3 and 2")
            self.hand.press(self.page.get_by_label("Do not ask this version of leaves").last)

    def promotes(self) -> None:
        with self.step("gives version 2 an alias"):
            self.go("Adapters")
            self.hand.press(self.page.get_by_role("link", name="leaves", exact=True))
            self.hand.press(self.page.get_by_role("link", name="Versions and aliases"))
            self.hand.write(self.page.get_by_label("New alias"), "prod")
            self.hand.choose(self.page.get_by_label("points at"), "2")
            self.hand.press(self.button("Set the alias"))
            self.said("prod points at version 2")
        with self.step("tries version 3 on the requests"):
            self.hand.press(self.page.get_by_role("link", name="Rollouts"))
            self.hand.write(self.page.get_by_label("Per cent of the requests"), "100")
            self.hand.press(self.button("Start"))
            self.said("Nothing to compare yet")
            self.go("Ask")
            self.hand.choose(self.page.get_by_label("Version of leaves"), ":prod")
            expect(self.page.locator("[aria-busy=true]")).to_have_count(0)
        with self.step("reads the report and promotes"):
            self.go("Adapters")
            self.hand.press(self.page.get_by_role("link", name="leaves", exact=True))
            self.hand.press(self.page.get_by_role("link", name="Rollouts"))
            self.said("Nothing speaks against it so far.")
            self.looked("reads the report of the rollout")
            self.agree("Promote version 3", "Promote")
            self.said("leaves:prod answers with version 3 now.")

    def rolls_back(self) -> None:
        with self.step("rolls back"):
            self.hand.press(self.page.get_by_role("link", name="Versions and aliases"))
            self.hand.choose(self.page.get_by_label("Version for prod"), "2")
            self.hand.press(self.button("Move prod"))
            self.said("prod points at version 2")

    def exports(self, to: str) -> str:
        with self.step("exports"):
            self.hand.press(self.page.get_by_role("link", name="Export, share, delete"))
            self.hand.choose(self.page.get_by_label("Format"), to)
            with self.page.expect_download() as download:
                self.hand.press(self.button("Download"))
            self.said("is in your downloads")
        return download.value.suggested_filename

    def drops(self, folder: Path) -> None:
        """A folder of class folders, until the first draft has answered about an image that it was not shown."""
        self.go("Teach")
        self.hand.press(self.button("Start over"))
        with self.step("drops a folder and asks its first draft"):
            self.choose_files(self.button("Choose a folder"), [folder])
            self.said("Ready.")
            self.hand.press(self.button("Teach"))
            expect(self.page.get_by_text("First draft live")).to_be_visible(timeout=self.patience_ms)
            self.choose_files(self.button("Choose an image to ask about"), [SAMPLES / "leaf-oak.png"])
            expect(self.page.locator(".told .top")).to_be_visible()

    def looks_around(self) -> None:
        """Every view, with no fault for a screen reader in light and dark."""
        for view in VIEWS:
            with self.step(f"looks at {view}"):
                self.go(view)
                expect(self.page.locator("#main h2").first).to_be_visible()
                expect(self.page.locator(".waiting")).to_have_count(0)
                found = self.faults(self.page)
                assert not found, found

    def does_everything(self, to: str) -> str:
        """The whole story; the name of the exported file."""
        for step in (self.teaches, self.watches, self.asks, self.corrects, self.retrains, self.compares, self.promotes):
            step()
        self.rolls_back()
        name = self.exports(to)
        self.looks_around()
        return name
