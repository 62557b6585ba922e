"""The page of a service that wants keys: it asks, keeps the key in memory, asks again where the role is too low."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import page_service
import pytest
from page_steps import ask, hits, settle
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

QUERY, ADMIN = "the key of a visitor", "the key of an operator"
SENTENCE = "cartoon squirrel"


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[str]:
    digests = {"query": [sha256(QUERY.encode()).hexdigest()], "admin": [sha256(ADMIN.encode()).hexdigest()]}
    with page_service.serve(home, keys=digests) as url:
        yield url


def prompt(page: Page) -> Locator:
    return page.get_by_role("dialog", name="A key, please")


def give(page: Page, key: str) -> None:
    expect(prompt(page)).to_be_visible()
    expect(prompt(page).get_by_label("Key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")


def test_the_page_asks_for_the_key_and_then_works(page: Page) -> None:
    expect(prompt(page)).to_contain_text("Whoever runs it can give you one.")
    give(page, QUERY)
    expect(prompt(page)).to_be_hidden()
    ask(page, SENTENCE)
    expect(hits(page).first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    expect(hits(page).first.locator("svg.bits")).to_be_visible()


def test_an_unknown_key_is_asked_for_again(page: Page) -> None:
    give(page, "a guess")
    expect(prompt(page)).to_contain_text("found one that this service does not know")
    expect(prompt(page).get_by_label("Key")).to_have_value("")
    give(page, QUERY)
    expect(page.locator("#serving")).to_contain_text("150 items")


def test_a_dismissed_question_can_be_answered_later(page: Page) -> None:
    prompt(page).get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("Authorization: Bearer KEY")
    expect(page.locator("#serving")).to_have_text("Not connected")
    page.get_by_role("button", name="Try again").click()
    give(page, QUERY)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#glimpse")).to_be_visible()


def test_the_key_is_kept_in_memory_only(page: Page) -> None:
    give(page, QUERY)
    expect(page.locator("#glimpse")).to_be_visible()
    kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie, document.body.innerHTML]")
    assert kept[:3] == [0, 0, ""]
    assert QUERY not in kept[3]
    assert page.get_by_label("Key", exact=True).input_value() == ""
    page.reload()
    expect(prompt(page)).to_be_visible()


def test_a_rebuild_asks_for_the_admin_key(page: Page) -> None:
    give(page, QUERY)
    page.locator("#about-open").click()
    page.get_by_role("button", name="Rebuild", exact=True).click()
    expect(prompt(page)).to_contain_text("Expected a key with the role admin, found one with the role query")
    give(page, ADMIN)
    expect(page.locator("#job-state")).to_contain_text("is done", timeout=20_000)
    expect(page.locator("#serving")).to_contain_text("generation 2")


def test_a_key_can_be_forgotten(page: Page) -> None:
    give(page, QUERY)
    page.locator("#about-open").click()
    sheet = page.get_by_role("dialog", name="Index")
    expect(sheet.locator("#key-state")).to_have_text("A key is in the memory of this page.")
    sheet.get_by_role("button", name="Forget it").click()
    expect(sheet.locator("#key-state")).to_have_text("No key is in use.")
    sheet.get_by_role("button", name="Close").click()
    page.get_by_label("What to look for").fill(SENTENCE)
    page.keyboard.press("Enter")
    give(page, QUERY)
    settle(page)
    assert hits(page).count() == 24
