"""The page for everybody: keyboard, screen reader, phone width, dark mode, reduced motion, several indexes."""

import re

import page_service
import pytest
from page_steps import ask, hits, settle, wait_for_jobs
from playwright.sync_api import Browser, Page, ViewportSize, expect

pytestmark = pytest.mark.browser

SENTENCE = "cartoon squirrel"
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"
# what can be reached by Tab: visible, enabled, and of a group of radio buttons the chosen one
REACHABLE = f"""() => [...document.querySelectorAll("{CONTROLS}")]
    .filter((node) => node.checkVisibility() && !node.disabled && !(node.type === "radio" && !node.checked))
    .filter((node) => !document.querySelector("dialog[open]") || node.closest("dialog[open]"))
    .map((node) => node.outerHTML.split(">")[0])"""
FOCUSED = 'document.activeElement.outerHTML.split(">")[0]'
OUTLINE = """() => {
    const node = document.activeElement;
    const places = [node, node.nextElementSibling, node.parentElement].filter(Boolean);
    return places.some((place) => parseFloat(getComputedStyle(place).outlineWidth) >= 2
        && getComputedStyle(place).outlineStyle !== "none");
}"""
DARK = """() => {
    const [page, text] = ["backgroundColor", "color"].map((name) => getComputedStyle(document.body)[name]);
    return [page, text].map((color) => color.match(/[0-9.]+/g).slice(0, 3).map(Number));
}"""


def walk(page: Page) -> list[str]:
    """What Tab reaches, in order, each with a visible focus."""
    reached: list[str] = []
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused.startswith("<body") or focused in reached[:1]:
            break
        assert page.evaluate(OUTLINE), f"no visible focus on {focused}"
        reached.append(focused)
    return reached


def expect_names(page: Page) -> None:
    """Every control that is there to be used says what it is."""
    for control in page.locator(CONTROLS).all():
        if control.is_visible():
            expect(control).to_have_accessible_name(re.compile(r"\w"))


def test_tab_reaches_everything_at_the_start(page: Page) -> None:
    expect(page.locator("#glimpse")).to_be_visible()
    expect_names(page)
    wanted = page.evaluate(REACHABLE)
    assert sorted(walk(page)) == sorted(wanted)


def test_tab_reaches_everything_of_an_answer_in_its_order(page: Page) -> None:
    page.get_by_role("button", name="Add a filter").click()
    page.get_by_label("Within distance").check()
    page.get_by_role("slider").fill("22")
    ask(page, SENTENCE)
    assert hits(page).count() > 0
    expect_names(page)
    page.get_by_role("link", name="Crossbit").focus()
    wanted = page.evaluate(REACHABLE)
    reached = walk(page)
    assert [one for one in wanted if one not in reached and "skip" not in one and "brand" not in one] == []
    buttons = [one for one in reached if 'class="like"' in one or 'class="code"' in one]
    assert buttons == [one for one in wanted if 'class="like"' in one or 'class="code"' in one]


def test_the_sheet_keeps_the_keyboard_and_gives_it_back(page: Page) -> None:
    expect(page.locator("#about-open")).to_be_enabled()  # once the index is read
    page.locator("#about-open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#about")).to_be_visible()
    expect_names(page)
    wanted = page.evaluate(REACHABLE)
    reached = walk(page)
    assert [one for one in wanted if one not in reached and 'class="close"' not in one] == []
    page.keyboard.press("Escape")
    expect(page.locator("#about-open")).to_be_focused()


def test_a_search_and_a_dialog_with_nothing_but_the_keyboard(page: Page) -> None:
    page.keyboard.press("/")
    expect(page.get_by_label("What to look for")).to_be_focused()
    page.keyboard.type(SENTENCE)
    page.keyboard.press("Enter")
    settle(page)
    hits(page).first.locator(".code svg").wait_for()
    hits(page).first.locator(".code").press("Enter")
    expect(page.locator("#compare")).to_be_visible()
    page.keyboard.press("Escape")
    hits(page).first.locator(".like").press("Space")
    expect(page.locator("#asked-text")).to_contain_text("More like")
    expect(page.locator("#asked-text")).to_be_focused()


def test_the_direction_turns_by_arrow_keys(page: Page) -> None:
    ask(page, SENTENCE)
    page.get_by_role("radio", name="Text → image").press("ArrowRight")
    settle(page)
    expect(page.get_by_role("radio", name="Same kind")).to_be_checked()  # the one between is not for sentences


def test_the_skip_link_leads_to_the_results(page: Page) -> None:
    ask(page, SENTENCE)
    page.get_by_role("link", name="Skip to the results").press("Enter")
    expect(page.get_by_role("region", name="Results")).to_be_focused()
    expect(page.locator("#asked-text")).to_have_text(f"“{SENTENCE}”")
    page.keyboard.press("Tab")
    expect(hits(page).first.locator(".like")).to_be_focused()


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    ask(page, SENTENCE)
    assert page.locator("html").get_attribute("lang") == "en"
    for role in ("banner", "main", "search", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)  # type: ignore[arg-type]  # a literal of the four
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("region", name="Results").get_by_role("listitem")).to_have_count(24)
    expect(page.get_by_role("status").first).to_contain_text("The 24 nearest")
    expect(page.get_by_role("group", name="Direction")).to_be_visible()
    expect(page.get_by_role("slider", name="Largest distance")).to_have_attribute("aria-valuetext", "16 of 64 bits")
    assert page.locator("img:not([alt])").count() == 0
    doubled = page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(doubled) == len(set(doubled))


def test_another_index_can_be_asked(page: Page) -> None:
    choice = page.get_by_role("combobox", name="Index")
    expect(choice).to_be_hidden()
    page.request.post("/v1/indexes/more/rebuild", data={"source": page_service.INDEX, "model": "second"})
    wait_for_jobs(page)
    page.reload()
    ask(page, SENTENCE)
    choice.select_option("more")
    expect(page.locator("#serving")).to_contain_text("more · 150 items")
    settle(page)
    hits(page).first.locator(".like").click()
    settle(page)
    choice.select_option("drawings")
    expect(page.locator("#glimpse")).to_be_visible()  # an item of one index is nobody in another
    assert hits(page).count() == 0


def test_a_phone_shows_all_of_it(browser: Browser, service: str) -> None:
    with browser.new_context(base_url=service, viewport=ViewportSize(width=360, height=740), has_touch=True) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#glimpse")).to_be_visible()
        assert overflow(page) == 0
        ask(page, SENTENCE)
        page.get_by_role("button", name="Add a filter").tap()
        assert overflow(page) == 0
        boxes = [hits(page).nth(position).bounding_box() for position in (0, 1)]
        assert boxes[0]["y"] == boxes[1]["y"]  # two in a row
        page.locator("#about-open").tap()
        expect(page.locator("#about")).to_be_visible()
        assert overflow(page) == 0


def overflow(page: Page) -> int:
    pixels: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return pixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_are_easy_to_read(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
    back, text = page.evaluate(DARK)
    assert (luminance(back) < luminance(text)) == (scheme == "dark")
    quiet = page.evaluate("getComputedStyle(document.querySelector('#hint')).color.match(/[0-9.]+/g).map(Number)")
    assert contrast(back, text) > 7
    assert contrast(back, quiet[:3]) > 4.5
    page.emulate_media(color_scheme="light")


def test_nothing_moves_for_who_wants_it_still(page: Page) -> None:
    moving = """() => [...document.querySelectorAll("*")].filter((node) => {
        const { transitionDuration, animationName } = getComputedStyle(node);
        return transitionDuration !== "0s" || animationName !== "none";
    }).length"""
    ask(page, SENTENCE)
    page.locator("#about-open").click()
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")


def contrast(one: list[float], other: list[float]) -> float:
    """As WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: list[float]) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (one / 255 for one in color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
