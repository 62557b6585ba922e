"""Refining a picture with words on the page: offered where the model fuses, and nowhere else."""

import re
import shutil
from pathlib import Path

import page_service
import pytest
from page_steps import (
    PAGE_SIZE,
    ask,
    captions,
    direction,
    distances,
    hits,
    ids_and_distances,
    pick,
    picture_of,
    settle,
    wait_for_jobs,
)
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from app.item_codes import Parts, encode_parts
from index.editing import NewItem, editing
from index.presence import Presence
from index.writer import IndexedItem
from model.fake import FusingFakeHasher

pytestmark = pytest.mark.browser

TITLE = "cartoon squirrel"
WORDS = "a purple sky"
ALONE = "words without a picture"
FUSING = FusingFakeHasher(64, seed="fusing")
INDEX = f"/v1/indexes/{page_service.INDEX}"


@pytest.fixture(scope="module")
def home(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose index was made by a model that fuses, with one item that is a text alone."""
    home = Path(shutil.copytree(built_home, tmp_path_factory.mktemp("pairs") / "home"))
    page_service.rebuild(home, "fusing")
    (codes,) = encode_parts(FUSING, [Parts(None, (ALONE,))])
    item = IndexedItem("alone", "0" * 64, ALONE, {"labels": []}, None, codes, Presence.TEXT)
    with editing(home / "indexes" / page_service.INDEX) as editor:
        editor.append([NewItem(item, None, {})], fingerprint=FUSING.fingerprint)
    return home


@pytest.fixture(scope="module")
def picture() -> bytes:
    return picture_of(TITLE)


@pytest.fixture
def asked(page: Page, picture: bytes) -> Page:
    """The page with the picture as its query."""
    pick(page, "squirrel.png", "image/png", picture)
    settle(page)
    return page


def words(page: Page) -> Locator:
    return page.get_by_role("textbox", name="This picture, but…")


def refine(page: Page, text: str) -> None:
    words(page).fill(text)
    words(page).press("Enter")
    expect(page.locator("#asked-text")).to_have_text(f"squirrel.png, but “{text}”")
    settle(page)


def service_finds(page: Page, picture: bytes, text: str) -> list[tuple[str, int]]:
    """Captions and distances of what the service itself answers to the pair."""
    form = {
        "file": {"name": "a.png", "mimeType": "image/png", "buffer": picture},
        "text": text,
        "limit": str(PAGE_SIZE),
    }
    answer = page.request.post("/v1/search/pair", multipart=form)
    assert answer.ok, answer.text()
    return ids_and_distances(answer.json())


def test_words_refine_a_picture(asked: Page, picture: bytes) -> None:
    refine(asked, WORDS)
    assert list(zip(captions(asked), distances(asked), strict=True)) == service_finds(asked, picture, WORDS)
    expect(asked.locator("#asked-image")).to_be_visible()
    expect(asked.locator("#status")).to_contain_text("The 24 nearest · image and words → items")


def test_a_picture_with_its_own_caption_finds_its_item(asked: Page) -> None:
    refine(asked, TITLE)
    assert (captions(asked)[0], distances(asked)[0], direction(asked)) == (TITLE, 0, "same")


def test_a_card_says_what_its_code_was_made_from(asked: Page) -> None:
    refine(asked, ALONE)
    expect(hits(asked).first.locator(".made-from")).to_have_text(re.compile("^from "))
    alone = hits(asked).filter(has_text=ALONE)
    expect(alone.locator(".made-from")).to_have_text("from text alone")
    expect(alone.get_by_role("button", name=re.compile(r"distance \d+, from text alone\. Show more"))).to_be_visible()
    others = hits(asked).filter(has_not_text=ALONE).locator(".made-from").all_text_contents()
    assert others == ["from image and text"] * (PAGE_SIZE - 1)


def test_cards_of_other_columns_say_nothing_of_it(page: Page) -> None:
    ask(page, TITLE)
    expect(hits(page).first.locator(".made-from")).to_be_hidden()


def test_words_are_changed_and_taken_away(asked: Page) -> None:
    refine(asked, WORDS)
    expect(words(asked)).to_have_value(WORDS)
    refine(asked, "at night")
    words(asked).fill("")
    asked.get_by_role("button", name="Refine").click()
    expect(asked.locator("#asked-text")).to_have_text("squirrel.png")
    settle(asked)
    assert direction(asked) == "image_to_text"


def test_no_words_ask_nothing_new(asked: Page) -> None:
    before = captions(asked)
    asked.get_by_role("button", name="Refine").click()
    expect(words(asked)).to_be_focused()
    assert captions(asked) == before


def test_back_returns_to_the_words_before(asked: Page) -> None:
    refine(asked, WORDS)
    refine(asked, "at night")
    asked.go_back()
    expect(words(asked)).to_have_value(WORDS)
    asked.go_back()
    expect(asked.locator("#asked-text")).to_have_text("squirrel.png")
    expect(words(asked)).to_have_value("")


def test_a_pair_pages_and_is_limited_like_a_sentence(asked: Page) -> None:
    refine(asked, WORDS)
    asked.get_by_role("button", name="Show more", exact=True).click()
    expect(hits(asked)).to_have_count(2 * PAGE_SIZE)
    assert distances(asked) == sorted(distances(asked))
    asked.get_by_label("Within distance").check()
    asked.get_by_role("slider").fill("28")
    expect(asked.locator("#status")).to_contain_text("within distance 28")
    settle(asked)
    assert max(distances(asked)) <= 28


def test_only_a_picture_is_refined(page: Page) -> None:
    ask(page, TITLE)
    expect(words(page)).to_be_hidden()
    hits(page).first.locator(".like").click()
    settle(page)
    expect(words(page)).to_be_hidden()


def test_long_words_say_what_was_cut(asked: Page) -> None:
    refine(asked, " ".join(["word"] * 300))
    expect(asked.locator("#asked-code-note")).to_contain_text("too long: 44 tokens were left out")


def test_the_words_are_reached_by_keyboard_and_named(asked: Page) -> None:
    expect(asked.get_by_role("form", name="Refine the picture with words")).to_be_visible()
    asked.get_by_role("button", name="Clear").focus()
    asked.keyboard.press("Shift+Tab")
    assert asked.evaluate("document.activeElement.closest('form, .asked').id") in ("refine", "asked")
    words(asked).focus()
    assert asked.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_the_sheet_counts_pairs_by_what_they_were_made_from(page: Page) -> None:
    page.locator("#about-open").click()
    expect(page.locator("#about-facts")).to_contain_text(
        "150 of image and text, 0 of an image alone, 1 of a text alone"
    )


def test_a_phone_has_room_for_the_words(browser: Browser, service: str, picture: bytes) -> None:
    with browser.new_context(base_url=service, viewport=ViewportSize(width=360, height=740)) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#glimpse")).to_be_visible()
        pick(page, "squirrel.png", "image/png", picture)
        settle(page)
        refine(page, WORDS)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_a_swap_to_a_model_that_does_not_fuse_takes_the_words_away(page: Page, picture: bytes) -> None:
    page.request.post(f"{INDEX}/rebuild", data={"model": "first"})
    wait_for_jobs(page)
    page.reload()
    pick(page, "squirrel.png", "image/png", picture)
    settle(page)
    expect(words(page)).to_be_hidden()
    page.request.post(f"{INDEX}/rollback", data={"generation": page.request.get(INDEX).json()["generation"] - 1})
