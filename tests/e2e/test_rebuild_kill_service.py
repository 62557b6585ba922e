"""kill -9 of a service in the midst of rebuilds and edits over HTTP: what it acknowledged is there when it is back."""

import base64
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from tiny_home import load_fake, make_home, png

from index.codes import to_hex
from index.snapshot import Snapshot
from model.images import decode_image

SCRIPT = Path(__file__).parent.parent / "support" / "serve_fake.py"
ITEMS = 600
KILLS = 5
WRITERS = 3
INDEX = "/v1/indexes/tiny"
MODELS = (("second", 128), ("first", 64))


class Service:
    """One process after the other on the same home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port_file = home / "port"
        self.start()

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        self._process = subprocess.Popen([sys.executable, str(SCRIPT), str(self._home), str(self._port_file)])
        wait_until(self._is_ready)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401 - of httpx2
        port = self._port_file.read_text(encoding="ascii")
        return httpx2.request(method, f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False, **options)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None
        with suppress(httpx2.HTTPError, FileNotFoundError):
            return self.ask("GET", "/readyz").status_code == 200
        return False


class Writer:
    """Edits items that no other writer touches, and knows what each of them may be."""

    def __init__(self, service: Service, number: int) -> None:
        self._service = service
        self._number = number
        self._ids = [f"item-{5 * n + number:04d}" for n in range(8)] + [f"new-{number}-{n}" for n in range(8)]
        self.states: dict[str, set[int | None]] = {}  # after a call without an answer it is one of two

    def run(self, stop: threading.Event) -> None:
        chance = np.random.default_rng(self._number)
        step = 0
        while not stop.is_set():
            item_id = str(chance.choice(self._ids))
            picture = None if chance.random() < 0.3 else 20_000 + self._number + 4 * step
            self._edit(item_id, picture)
            step += 1

    def _edit(self, item_id: str, picture: int | None) -> None:
        before = self.states.get(item_id, {-1 if item_id.startswith("item") else None})
        self.states[item_id] = before | {picture}
        try:
            answer = self._delete(item_id) if picture is None else self._append(item_id, picture)
        except (httpx2.HTTPError, FileNotFoundError):
            time.sleep(0.05)
            return
        if answer.status_code == 404:
            assert None in before, (item_id, before)
            self.states[item_id] = {None}
        elif answer.status_code == 200:
            self.states[item_id] = {picture}
        else:
            assert answer.json()["code"] in ("not_ready", "overloaded"), answer.text
            self.states[item_id] = before

    def _append(self, item_id: str, picture: int) -> httpx2.Response:
        image = base64.b64encode(png(picture)).decode()
        item = {"id": item_id, "image_base64": image, "metadata": {"picture": picture}}
        return self._service.ask("POST", f"{INDEX}/items", json={"items": [item]})

    def _delete(self, item_id: str) -> httpx2.Response:
        return self._service.ask("DELETE", f"{INDEX}/items/{item_id}")


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.03)


def rebuild(service: Service, **wanted: object) -> str:
    answer = service.ask("POST", f"{INDEX}/rebuild", json=wanted)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def is_over(service: Service, job: str) -> bool:
    body = service.ask("GET", job).json()
    assert body["state"] in ("queued", "running", "done"), body
    return bool(body["state"] == "done")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(make_home(tmp_path, ITEMS))
    job = rebuild(service, source="tiny", model="first")
    wait_until(lambda: is_over(service, job))
    yield service
    service.kill()


@pytest.mark.slow
def test_what_a_service_acknowledged_outlives_it(service: Service, tmp_path: Path) -> None:
    stop, chance = threading.Event(), np.random.default_rng(7)
    writers = [Writer(service, number) for number in range(WRITERS)]
    rebuilds = met = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(writer.run, stop) for writer in writers]
        try:
            job = ""
            for _ in range(KILLS):
                if not job or is_over(service, job):
                    model, bits = MODELS[rebuilds % 2]
                    job, rebuilds = rebuild(service, model=model, bits=bits), rebuilds + 1
                alive_until = time.monotonic() + chance.uniform(0.1, 1.2)
                wait_until(lambda end=alive_until: time.monotonic() > end)
                met += not is_over(service, job)
                service.kill()
                service.start()
            wait_until(lambda: is_over(service, job))
        finally:
            stop.set()
        for one in running:
            one.result()
    service.kill()
    assert met > 1  # rebuilds were killed on their way
    with Snapshot.open(tmp_path / "indexes" / "tiny") as snapshot:
        check(snapshot, {item_id: states for writer in writers for item_id, states in writer.states.items()})


def check(snapshot: Snapshot, states: dict[str, set[int | None]]) -> None:
    manifest = snapshot.manifest
    hasher = load_fake(Path(manifest.artifact), manifest.bits, "cpu")
    assert snapshot.pending == ()
    source = {f"item-{number:04d}" for number in range(ITEMS) if number % 5 != 4}
    found = {item.id for item in snapshot.all_items()}
    assert found - states.keys() == source - states.keys()
    assert len(states) > 20
    for item_id, allowed in states.items():
        if item_id not in found:
            assert None in allowed, (item_id, allowed)
            continue
        item = snapshot.item(item_id)
        picture = item.metadata.get("picture", -1)
        assert picture in allowed, (item_id, picture, allowed)
        shown = int(item_id[-4:]) if picture == -1 else int(str(picture))
        assert item.codes["image"] == [to_hex(hasher.encode_images([decode_image(png(shown))]).codes[0])]
