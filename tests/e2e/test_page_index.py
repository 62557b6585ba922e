"""The sheet about the index: facts, code diagnostics, rebuild with progress, cancel, rollback."""

import re
from collections.abc import Iterator
from threading import Event

import page_service
import pytest
from page_steps import PAGE_SIZE, ask, captions, distances, hits, ids_and_distances, search, settle, wait_for_jobs
from playwright.sync_api import Locator, Page, expect

from model.fake import FakeHasher

pytestmark = pytest.mark.browser

SENTENCE = "cartoon squirrel"
INDEX = f"/v1/indexes/{page_service.INDEX}"


@pytest.fixture(autouse=True)
def gate() -> Iterator[Event]:
    """What the model ``slow`` waits for, while a test has it cleared."""
    gate = page_service.GatedHasher.gate
    gate.set()
    yield gate
    gate.set()


def sheet(page: Page) -> Locator:
    page.locator("#about-open").click()
    dialog = page.get_by_role("dialog", name=f"Index {page_service.INDEX}")
    expect(dialog).to_be_visible()
    return dialog


def rebuild(page: Page, model: str) -> Locator:
    dialog = sheet(page)
    dialog.get_by_label("Model").select_option(model)
    dialog.get_by_label("Reuse the codes").uncheck()
    dialog.get_by_role("button", name="Rebuild", exact=True).click()
    return dialog


def expect_generation(page: Page, number: int) -> None:
    expect(page.locator("#serving")).to_contain_text(f"generation {number}")


def generation(page: Page) -> int:
    found: int = page.request.get(INDEX).json()["generation"]
    return found


def test_the_sheet_names_index_model_and_fingerprint(page: Page) -> None:
    index = page.request.get(INDEX).json()
    facts = sheet(page).locator("#about-facts")
    expect(facts).to_contain_text(index["model"]["fingerprint"])
    expect(facts).to_contain_text(index["model"]["name"])
    expect(facts).to_contain_text(f"{index['bits']} bits, made on cpu")
    expect(facts).to_contain_text(f"{index['items']}")


def test_the_sheet_shows_how_the_codes_use_their_bits(page: Page) -> None:
    columns = page.request.get(INDEX).json()["columns"]
    dialog = sheet(page)
    for name, column in columns.items():
        row = dialog.get_by_role("row", name=re.compile(f"^{name}"))
        figures = column["diagnostics"]
        cells = row.get_by_role("cell").all_text_contents()
        assert cells[:2] == [str(column["items"]), str(column["codes"])]
        assert cells[2].startswith(f"{column['distinct']} (")
        assert cells[3] == f"{figures['balance_min']:.1%} to {figures['balance_max']:.1%}".replace("%", " %")
        assert cells[4:] == [str(figures["dead_bits"]), str(figures["largest_bucket"])]


def test_a_rebuild_shows_its_progress_and_swaps(page: Page, gate: Event) -> None:
    gate.clear()
    before = generation(page)
    ask(page, SENTENCE)
    dialog = rebuild(page, "slow")
    expect(dialog.locator("#job-state")).to_have_text(f"Rebuild of {page_service.INDEX} is running")
    expect(dialog.locator("#job-figures")).to_contain_text("of 150 items")
    expect(dialog.get_by_role("button", name="Cancel the rebuild")).to_be_focused()
    expect(page.locator("#serving-job")).to_be_visible()
    gate.set()
    expect(dialog.locator("#job-state")).to_have_text(f"Rebuild of {page_service.INDEX} is done", timeout=20_000)
    expect(dialog.locator("#job-progress")).to_have_js_property("value", 1)
    expect(page.locator("#serving-job")).to_be_hidden()
    expect_generation(page, before + 1)
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#notice")).to_have_text(f"Generation {before + 1} serves now.")
    settle(page)
    assert list(zip(captions(page), distances(page), strict=True)) == ids_and_distances(search(page, query=SENTENCE))


def test_a_rebuild_is_found_again_after_a_reload_and_cancelled(page: Page, gate: Event) -> None:
    gate.clear()
    before = generation(page)
    rebuild(page, "slow")
    expect(page.locator("#serving-job")).to_be_visible()
    page.reload()
    expect(page.locator("#serving-job")).to_be_visible()
    dialog = sheet(page)
    dialog.get_by_role("button", name="Cancel the rebuild").click()
    gate.set()
    expect(dialog.locator("#job-state")).to_have_text(f"Rebuild of {page_service.INDEX} was cancelled", timeout=20_000)
    expect(dialog.get_by_role("button", name="Rebuild", exact=True)).to_be_visible()
    assert generation(page) == before


def test_a_dry_run_swaps_nothing(page: Page) -> None:
    before = generation(page)
    dialog = sheet(page)
    dialog.get_by_label("Dry run").check()
    dialog.get_by_role("button", name="Rebuild", exact=True).click()
    expect(dialog.locator("#job-state")).to_have_text(f"Dry run of {page_service.INDEX} is done", timeout=20_000)
    assert generation(page) == before


def test_a_rollback_returns_to_the_generation_before(page: Page) -> None:
    before = generation(page)
    rebuild(page, "second")
    expect_generation_after(page, before)
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=f"Roll back to it: generation {before}").click()
    expect_generation(page, before)
    expect(dialog.get_by_role("button", name=re.compile("^Roll forward to it"))).to_be_visible()
    assert generation(page) == before


def test_another_model_is_asked_with_its_own_code(page: Page) -> None:
    model = "second" if current_model(page) == "first" else "first"
    ask(page, SENTENCE)
    page.request.post(f"{INDEX}/rebuild", data={"model": model})
    wait_for_jobs(page)
    page.get_by_role("radio", name="Same kind").check()
    settle(page)
    code = page.request.post("/v1/encode/text", data={"query": SENTENCE}).json()
    assert code["fingerprint"] == FakeHasher(64, seed=model).fingerprint
    assert (captions(page)[0], distances(page)[0]) == (SENTENCE, 0)
    expect_generation(page, generation(page))


def test_an_expired_page_starts_over_with_a_notice(page: Page) -> None:
    ask(page, SENTENCE)
    page.request.post(f"{INDEX}/rebuild", data={})
    wait_for_jobs(page)
    page.get_by_role("button", name="Show more", exact=True).click()
    expect(page.locator("#notice")).to_have_text("The index changed meanwhile, so the results start over.")
    settle(page)
    assert hits(page).count() == PAGE_SIZE
    assert captions(page) == [text for text, _ in ids_and_distances(search(page, query=SENTENCE))]


def test_what_goes_wrong_is_told_in_the_sheet(page: Page) -> None:
    dialog = sheet(page)
    page.route("**/rebuild", lambda route: route.fulfill(status=409, json={"detail": "it already has a rebuild"}))
    dialog.get_by_role("button", name="Rebuild", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("It already has a rebuild")


def current_model(page: Page) -> str:
    name: str = page.request.get(INDEX).json()["model"]["name"]
    return name


def expect_generation_after(page: Page, before: int) -> None:
    expect(page.locator("#serving")).to_have_text(re.compile(rf"generation (?!{before}$)\d+$"), timeout=20_000)
