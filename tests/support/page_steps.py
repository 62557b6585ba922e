"""What a visitor does on the page, and what a test reads off it."""

import io
import zipfile
from typing import Any

from page_service import FIXTURE
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page

PAGE_SIZE = 24
ANSWERED = """() => /searched in/.test(document.querySelector("#status").textContent)
    && !document.querySelector("#results").ariaBusy"""


def ask(page: Page, text: str) -> None:
    """Search by a sentence, with the keyboard."""
    field = page.get_by_label("What to look for")
    field.fill(text)
    field.press("Enter")
    settle(page)


def pick(page: Page, name: str, kind: str, data: bytes) -> None:
    """Pick an image file."""
    page.get_by_label("Search with an image file").set_input_files(FilePayload(name=name, mimeType=kind, buffer=data))


def settle(page: Page) -> None:
    """Wait for the answer on screen, frame by frame: an expectation would look every quarter of a second."""
    page.wait_for_function(ANSWERED)


def hits(page: Page) -> Locator:
    """The cards."""
    return page.locator("#hits > li")


def captions(page: Page) -> list[str]:
    """The captions of the cards, in order."""
    return page.locator("#hits .caption").all_text_contents()


def distances(page: Page) -> list[int]:
    """The distances on the cards, in order."""
    return [int(text.removeprefix("distance ")) for text in page.locator("#hits .distance").all_text_contents()]


def direction(page: Page) -> str:
    """The direction that is switched on."""
    return page.locator("input[name=direction]:checked").input_value()


def search(page: Page, **body: object) -> dict[str, Any]:
    """What the service itself answers to a text search."""
    answer = page.request.post("/v1/search/text", data={"limit": PAGE_SIZE, **body})
    assert answer.ok, answer.text()
    found: dict[str, Any] = answer.json()
    return found


def wait_for_jobs(page: Page) -> None:
    """Wait until the service has no rebuild under way."""
    for _ in range(400):
        jobs = page.request.get("/v1/jobs").json()["jobs"]
        if all(job["state"] in ("done", "failed", "cancelled") for job in jobs):
            return
        page.wait_for_timeout(50)
    raise TimeoutError("a rebuild did not end")


def ids_and_distances(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """Captions and distances of an answer, in order."""
    return [(hit["text"], hit["distance"]) for hit in answer["hits"]]


def picture_of(title: str) -> bytes:
    """The image file of the drawing with this title, as PNG."""
    with zipfile.ZipFile(FIXTURE) as archive:
        line = next(line for line in archive.read("items.jsonl").decode().splitlines() if f'"title": "{title}"' in line)
        name = line.split('"image": "')[1].split('"')[0]
        buffer = io.BytesIO()
        Image.open(io.BytesIO(archive.read(name))).save(buffer, "PNG")
    return buffer.getvalue()
