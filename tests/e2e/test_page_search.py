"""Searching on the page: sentences, items, direction, ties, codes, radius, filters, paging."""

import re
from itertools import groupby

import pytest
from page_steps import (
    PAGE_SIZE,
    ask,
    captions,
    direction,
    distances,
    hits,
    ids_and_distances,
    search,
    settle,
)
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

BITS = 64
SENTENCE = "cartoon squirrel"


def shown(page: Page) -> list[tuple[str, int]]:
    return list(zip(captions(page), distances(page), strict=True))


def choose(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name).check()
    settle(page)


def slide(page: Page, radius: int) -> None:
    page.get_by_label("Within distance").check()
    page.get_by_role("slider").fill(str(radius))
    expect(page.locator("#status")).to_contain_text(f"within distance {radius}")
    settle(page)


def test_the_start_offers_items_and_sentences_of_the_index(page: Page) -> None:
    expect(page.locator("#glimpse-items img[src^='blob:']").first).to_be_visible()
    expect(page.locator("#glimpse-items button")).to_have_count(12)
    page.locator("#examples button").first.click()
    settle(page)
    assert hits(page).count() == PAGE_SIZE
    expect(page.locator("#glimpse")).to_be_hidden()


def test_another_glimpse_is_one_press_away(page: Page) -> None:
    items = page.locator("#glimpse-items button").first
    before = items.element_handle()
    page.get_by_role("button", name="another", exact=True).click()
    page.wait_for_function("node => !node.isConnected", arg=before)
    expect(page.locator("#glimpse-items button")).to_have_count(12)


def test_a_sentence_finds_what_the_service_finds(page: Page) -> None:
    ask(page, SENTENCE)
    assert shown(page) == ids_and_distances(search(page, query=SENTENCE))
    expect(page.locator("#asked-text")).to_have_text(f"“{SENTENCE}”")
    expect(page.locator("#status")).to_contain_text("The 24 nearest · text → image")


def test_a_card_tells_distance_similarity_and_labels(page: Page) -> None:
    ask(page, SENTENCE)
    first = search(page, query=SENTENCE)["hits"][0]
    card = hits(page).first
    expect(card.locator(".distance")).to_have_text(f"distance {first['distance']}")
    expect(card.locator(".similarity")).to_have_text(f"similarity {round(100 * first['similarity'])} %")
    expect(card.locator(".labels")).to_have_text(" · ".join(first["metadata"]["labels"]))


def test_pictures_are_fetched_when_they_come_near(page: Page) -> None:
    ask(page, SENTENCE)
    expect(hits(page).first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    last = hits(page).last.locator("img")
    expect(last).to_be_hidden()
    last.locator("xpath=../..").scroll_into_view_if_needed()
    expect(last).to_be_visible()


def test_an_empty_sentence_asks_nothing(page: Page) -> None:
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_label("What to look for")).to_be_focused()
    expect(page.locator("#status")).to_be_empty()


def test_more_like_this_finds_the_item_first(page: Page) -> None:
    ask(page, SENTENCE)
    caption = captions(page)[3]
    hits(page).nth(3).locator(".like").click()
    settle(page)
    assert shown(page)[0] == (caption, 0)
    assert direction(page) == "same"
    expect(page.locator("#asked-text")).to_have_text(f"More like “{caption}”")
    expect(page.locator("#asked-text")).to_be_focused()
    expect(hits(page).first).to_have_class(re.compile("is-query"))


def test_back_returns_to_the_query_before(page: Page) -> None:
    ask(page, SENTENCE)
    before = shown(page)
    hits(page).nth(3).locator(".like").click()
    expect(page.locator("#asked-text")).to_contain_text("More like")
    settle(page)
    page.go_back()
    expect(page.locator("#asked-text")).to_have_text(f"“{SENTENCE}”")
    settle(page)
    assert shown(page) == before
    page.go_back()
    expect(page.locator("#glimpse")).to_be_visible()


def test_a_reload_keeps_the_sentence_and_the_way_back(page: Page) -> None:
    ask(page, "kangaroo")
    ask(page, SENTENCE)
    page.reload()
    settle(page)
    expect(page.locator("#asked-text")).to_have_text(f"“{SENTENCE}”")
    page.go_back()
    expect(page.locator("#asked-text")).to_have_text("“kangaroo”")
    settle(page)


def test_clear_returns_to_the_start(page: Page) -> None:
    ask(page, SENTENCE)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#glimpse")).to_be_visible()
    expect(page.get_by_label("What to look for")).to_be_focused()
    assert hits(page).count() == 0


def test_the_same_kind_compares_sentences_with_captions(page: Page) -> None:
    ask(page, SENTENCE)
    choose(page, "Same kind")
    assert shown(page) == ids_and_distances(search(page, query=SENTENCE, target="text"))
    assert shown(page)[0] == (SENTENCE, 0)


def test_a_sentence_cannot_go_from_image_to_text(page: Page) -> None:
    page.get_by_role("radio", name="Image → text").check()
    expect(page.locator("#hint")).to_contain_text("to find the captions")
    ask(page, SENTENCE)
    assert direction(page) == "text_to_image"
    expect(page.get_by_role("radio", name="Image → text")).to_be_disabled()


def test_an_item_goes_every_way(page: Page) -> None:
    ask(page, SENTENCE)
    caption = captions(page)[0]
    hits(page).first.locator(".like").click()
    settle(page)
    choose(page, "Text → image")
    assert shown(page) == ids_and_distances(search(page, query=caption))
    choose(page, "Image → text")
    expect(page.locator("#status")).to_contain_text("image → text")
    assert shown(page) != ids_and_distances(search(page, query=caption))


def test_ties_are_bracketed_and_counted(page: Page) -> None:
    ask(page, SENTENCE)
    found = search(page, query=SENTENCE)["hits"]
    groups = [list(group) for _, group in groupby(found, key=lambda hit: hit["distance"])]
    sizes = [(group[0]["tie"]["size"], group[0]["distance"]) for group in groups]
    told = [text for text in page.locator("#hits .tie").all_text_contents() if text]
    assert told == [f"{size} tie at distance {distance}" for size, distance in sizes if size > 1]
    tied = page.locator("#hits > li.tied")
    assert tied.count() == sum(len(group) for group, (size, _) in zip(groups, sizes, strict=True) if size > 1)
    expect(tied.first.locator(".like")).to_have_accessible_name(re.compile(r"one of \d+ that tie at this distance"))


def test_each_card_shows_which_bits_differ(page: Page) -> None:
    ask(page, SENTENCE)
    for position in range(3):
        card = hits(page).nth(position)
        card.scroll_into_view_if_needed()
        expect(card.locator("svg.bits")).to_be_visible()
        assert squares(page, position, "differs") == distances(page)[position]
        assert squares(page, position, "same") == BITS - distances(page)[position]
    expect(page.locator("#asked-code svg")).to_have_accessible_name(f"Code of {BITS} bits")
    expect(page.locator("#asked-code-note")).to_contain_text(f"{BITS} bits")


def squares(page: Page, position: int, kind: str) -> int:
    paths = hits(page).nth(position).locator(f"svg path.{kind}")
    return sum((path.get_attribute("d") or "").count("M") for path in paths.all())


def test_two_codes_are_compared_in_a_dialog(page: Page) -> None:
    ask(page, SENTENCE)
    (hit,) = search(page, query=SENTENCE, limit=1)["hits"]
    code = page.request.post("/v1/encode/text", data={"query": SENTENCE}).json()["codes"][0]
    item = page.request.get(f"/v1/indexes/drawings/items/{hit['id']}").json()
    hits(page).first.get_by_role("button", name="Compare the codes").click()
    dialog = page.get_by_role("dialog", name=hit["text"])
    expect(dialog.locator("#compare-query code")).to_have_text(code)
    expect(dialog.locator("#compare-hit code")).to_have_text(item["codes"]["image"][0])
    expect(dialog.locator("#compare-figures")).to_contain_text(f"{hit['distance']} of {BITS} bits differ")
    expect(dialog.locator("#compare-metadata")).to_contain_text(item["metadata"]["file"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(hits(page).first.locator(".code")).to_be_focused()


def test_the_dialog_leads_to_more_like_this(page: Page) -> None:
    ask(page, SENTENCE)
    caption = captions(page)[1]
    hits(page).nth(1).get_by_role("button", name="Compare the codes").click()
    page.get_by_role("dialog").get_by_role("button", name="More like this").click()
    expect(page.locator("#asked-text")).to_have_text(f"More like “{caption}”")


def test_a_radius_is_off_by_default_and_its_total_exact(page: Page) -> None:
    ask(page, SENTENCE)
    expect(page.get_by_role("slider")).to_be_disabled()
    slide(page, 32)
    answer = search(page, query=SENTENCE, radius=32)
    assert shown(page) == ids_and_distances(answer)
    expect(page.locator("#status")).to_contain_text(f"24 of exactly {answer['total_within_radius']} within distance 32")
    page.get_by_label("Within distance").uncheck()
    expect(page.locator("#status")).to_contain_text("The 24 nearest")


def test_a_radius_with_nothing_in_it_says_so(page: Page) -> None:
    ask(page, SENTENCE)
    slide(page, 0)
    expect(page.locator("#status")).to_contain_text("Nothing found within distance 0, look farther")
    assert hits(page).count() == 0


def test_the_slider_spans_the_bits(page: Page) -> None:
    page.get_by_label("Within distance").check()
    slider = page.get_by_role("slider")
    slider.press("End")
    expect(page.locator("#radius-value")).to_have_text(f"{BITS} of {BITS}")
    slider.press("Home")
    expect(page.locator("#radius-value")).to_have_text(f"0 of {BITS}")


def add_filter(page: Page, field: str, condition: str | None = None) -> None:
    page.get_by_role("button", name="Add a filter").click()
    row = page.locator(".filter").last
    row.get_by_label("Field").select_option(field)
    if condition is not None:
        row.get_by_label("Condition").select_option(label=condition)


def test_filters_are_typed_by_their_fields(page: Page) -> None:
    ask(page, SENTENCE)
    add_filter(page, "is_flag")
    page.get_by_label("Value of is_flag").select_option("true")
    settle(page)
    flags = search(page, query=SENTENCE, filter={"is_flag": True})
    assert shown(page) == ids_and_distances(flags)
    add_filter(page, "number", "is from … to")
    page.get_by_label("number from").fill("50")
    page.get_by_label("number to").fill("150")
    page.get_by_label("number to").press("Enter")
    settle(page)
    both = {"is_flag": True, "number": {"gte": 50, "lte": 150}}
    expect(hits(page)).to_have_count(len(search(page, query=SENTENCE, filter=both)["hits"]))
    assert shown(page) == ids_and_distances(search(page, query=SENTENCE, filter=both))
    page.get_by_role("button", name="Remove the filter on is_flag").click()
    page.get_by_role("button", name="Remove the filter on number").click()
    expect(hits(page)).to_have_count(PAGE_SIZE)
    expect(page.get_by_role("button", name="Add a filter")).to_be_focused()


def test_membership_and_equality_over_texts(page: Page) -> None:
    ask(page, SENTENCE)
    add_filter(page, "labels", "is one of")
    page.get_by_label("Value of labels").fill("music, food")
    page.get_by_label("Value of labels").blur()
    settle(page)  # as many hits as before
    wanted = search(page, query=SENTENCE, filter={"labels": {"in": ["music", "food"]}})
    expect(hits(page)).to_have_count(len(wanted["hits"]))
    assert shown(page) == ids_and_distances(wanted)
    page.get_by_label("Condition").select_option(label="is")
    suggested = page.locator("datalist option").evaluate_all("options => options.map(({ value }) => value)")
    assert {"music", "food"} <= set(suggested)
    page.get_by_label("Value of labels").fill("music")
    page.get_by_label("Value of labels").press("Tab")
    settle(page)
    wanted = search(page, query=SENTENCE, filter={"labels": "music"})
    expect(hits(page)).to_have_count(len(wanted["hits"]))
    assert shown(page) == ids_and_distances(wanted)


def test_a_field_is_offered_once(page: Page) -> None:
    add_filter(page, "labels")
    page.get_by_role("button", name="Add a filter").click()
    used = page.locator(".filter").last.get_by_label("Field").locator("option[value=labels]")
    expect(used).to_be_disabled()


def test_pages_follow_each_other_without_a_gap(page: Page) -> None:
    ask(page, SENTENCE)
    page.get_by_role("button", name="Show more", exact=True).click()
    expect(hits(page)).to_have_count(2 * PAGE_SIZE)
    expect(hits(page).nth(PAGE_SIZE).locator(".like")).to_be_focused()
    assert shown(page) == ids_and_distances(search(page, query=SENTENCE, limit=2 * PAGE_SIZE))
    expect(page.locator("#status")).to_contain_text("The 48 nearest")


def test_the_last_page_offers_no_more(page: Page) -> None:
    ask(page, SENTENCE)
    add_filter(page, "is_flag")
    page.get_by_label("Value of is_flag").select_option("true")
    wanted = search(page, query=SENTENCE, filter={"is_flag": True}, limit=100)["hits"]
    while hits(page).count() < len(wanted):
        before = hits(page).count()
        page.get_by_role("button", name="Show more", exact=True).click()
        expect(hits(page)).not_to_have_count(before)
    expect(page.get_by_role("button", name="Show more", exact=True)).to_be_hidden()
    assert captions(page) == [hit["text"] for hit in wanted]


def test_a_long_text_says_what_was_left_out(page: Page) -> None:
    ask(page, "word " * 300)
    expect(page.locator("#asked-code-note")).to_contain_text("too long: 44 tokens were left out")


def test_a_problem_is_told_in_the_words_of_the_service(page: Page) -> None:
    ask(page, SENTENCE)
    add_filter(page, "number", "is one of")
    page.get_by_label("Value of number").fill("twelve")
    page.get_by_label("Value of number").blur()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Invalid request.")
    expect(alert).to_contain_text("Expected for field 'number' a number, found the string 'twelve'")
    assert hits(page).count() == 0
    page.get_by_label("Value of number").fill("12")
    page.get_by_label("Value of number").blur()
    expect(alert).to_be_hidden()
    expect(hits(page)).to_have_count(len(search(page, query=SENTENCE, filter={"number": 12})["hits"]))


def test_a_service_that_is_gone_is_told(page: Page) -> None:
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_label("What to look for").fill(SENTENCE)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached. Is it still running?")
