"""Searching with an image on the page: picked, pasted, dropped."""

import base64

import pytest
from page_steps import captions, direction, distances, hits, pick, picture_of, settle
from playwright.sync_api import JSHandle, Page, expect

pytestmark = pytest.mark.browser

TITLE = "cartoon squirrel"
MAKE_TRANSFER = """([name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    return transfer;
}"""


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_of(TITLE)


def transfer(page: Page, name: str, kind: str, data: bytes) -> JSHandle:
    return page.evaluate_handle(MAKE_TRANSFER, [name, kind, base64.b64encode(data).decode()])


def expect_found(page: Page, title: str) -> None:
    settle(page)
    expect(page.locator("#asked-text")).to_have_text(title)
    expect(page.locator("#asked-image")).to_be_visible()
    assert direction(page) == "image_to_text"
    page.get_by_role("radio", name="Same kind").check()
    settle(page)
    assert (captions(page)[0], distances(page)[0]) == (TITLE, 0)


def test_a_picked_image_finds_captions_and_its_like(page: Page, picture: bytes) -> None:
    pick(page, "squirrel.png", "image/png", picture)
    expect_found(page, "squirrel.png")


def test_the_same_file_may_be_picked_again(page: Page, picture: bytes) -> None:
    for _ in range(2):
        pick(page, "squirrel.png", "image/png", picture)
        settle(page)
        page.get_by_role("button", name="Clear", exact=True).click()
    pick(page, "squirrel.png", "image/png", picture)
    settle(page)


def test_a_dropped_image_is_searched_with(page: Page, picture: bytes) -> None:
    data = transfer(page, "dropped.png", "image/png", picture)
    page.dispatch_event("body", "dragover", {"dataTransfer": data})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    expect(page.locator("#drop")).to_be_hidden()
    expect_found(page, "dropped.png")


def test_the_veil_goes_when_the_image_is_dragged_out_again(page: Page, picture: bytes) -> None:
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer(page, "a.png", "image/png", picture)})
    page.dispatch_event("body", "dragleave")
    expect(page.locator("#drop")).to_be_hidden()


def test_a_pasted_image_is_searched_with(page: Page, picture: bytes) -> None:
    page.evaluate(
        "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
        transfer(page, "image.png", "image/png", picture),
    )
    expect_found(page, "image.png")


def test_what_is_no_image_is_refused_at_once(page: Page) -> None:
    page.dispatch_event("body", "drop", {"dataTransfer": transfer(page, "notes.txt", "text/plain", b"words")})
    expect(page.get_by_role("alert")).to_contain_text("Not an image.")
    expect(page.locator("#glimpse")).to_be_visible()


def test_an_image_that_does_not_decode_is_told_in_the_words_of_the_service(page: Page) -> None:
    pick(page, "broken.png", "image/png", b"not a picture")
    expect(page.get_by_role("alert")).to_contain_text("Not an accepted image.")
    assert hits(page).count() == 0


def test_an_image_pages_and_is_limited_like_a_sentence(page: Page, picture: bytes) -> None:
    pick(page, "squirrel.png", "image/png", picture)
    settle(page)
    page.get_by_role("button", name="Show more", exact=True).click()
    expect(hits(page)).to_have_count(48)
    assert distances(page) == sorted(distances(page))
    page.get_by_label("Within distance").check()
    page.get_by_role("slider").fill("28")
    expect(page.locator("#status")).to_contain_text("within distance 28")
    settle(page)
    assert max(distances(page)) <= 28


def test_a_new_sentence_turns_back_to_images(page: Page, picture: bytes) -> None:
    pick(page, "squirrel.png", "image/png", picture)
    settle(page)
    expect(page.get_by_label("What to look for")).to_have_value("")
    page.get_by_label("What to look for").fill("a sentence")
    page.keyboard.press("Enter")
    settle(page)
    assert direction(page) == "text_to_image"
    expect(page.locator("#asked-image")).to_be_hidden()
