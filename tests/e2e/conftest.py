"""Fixtures of the tests that drive the page in a browser: one served home and one browser a module."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import page_service
import pytest
from jobs_database import fresh_database
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 8000
VIEWPORT = ViewportSize(width=1000, height=640)


@pytest.fixture(scope="module", autouse=True)
def jobs_database() -> Iterator[None]:
    """Each module has its own database of jobs, in processes that it starts as well."""
    with fresh_database() as url, pytest.MonkeyPatch.context() as patch:
        if url is not None:
            patch.setenv("CROSSBIT_JOBS_URL", url)
        yield


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one index; copied by whoever serves it, so that no module sees what another did."""
    return page_service.make_home(tmp_path_factory.mktemp("page") / "home")


@pytest.fixture(scope="module")
def home(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home, for one module."""
    return Path(shutil.copytree(built_home, tmp_path_factory.mktemp("copy") / "home"))


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[str]:
    """The address of a service on the home."""
    with page_service.serve(home) as url:
        yield url


@pytest.fixture(scope="module")
def browser(service: str) -> Iterator[Browser]:
    """Chromium, without a window."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            "expected Chromium for the tests of the page, found none on the PATH; "
            "install it with `apt-get install chromium`, or put any Chromium or Chrome there under that name"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, service: str) -> Iterator[Page]:
    """One tab, as a new one for each test would take longer than most tests."""
    with browser.new_context(base_url=service, reduced_motion="reduce", viewport=VIEWPORT) as context:
        context.set_default_timeout(WAIT_MS)
        yield context.new_page()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """The start of the page; script errors and breaches of the policy, such as a call to elsewhere, fail the test."""
    faults: list[str] = []
    listeners: dict[str, Callable[..., None]] = {
        "pageerror": lambda error: faults.append(str(error)),
        "console": lambda message: _note(message, faults),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)  # type: ignore[call-overload]  # the names are those of its overloads
    tab.goto("/", wait_until="domcontentloaded")
    yield tab
    tab.unroute_all()
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert faults == []


def _note(message: ConsoleMessage, faults: list[str]) -> None:
    if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
        faults.append(message.text)
