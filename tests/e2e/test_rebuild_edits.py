"""Items appended and deleted over HTTP while rebuilds change model and bits: nothing lost, resurrected or mixed."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_artifact import write_fake_artifact
from fastapi.testclient import TestClient
from tiny_home import FUSING, load_fake, make_home, png

import app.rebuild
import index.replay
from app.main import create_app
from app.settings import Settings
from index.codes import to_hex
from index.snapshot import Snapshot
from model.images import decode_image

ITEMS = 400
DATABASE = 320
INDEX = "/v1/indexes/tiny"
CHANGES = [{}, {"model": "second"}, {"bits": 128}, {"model": FUSING, "bits": 32}]


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service with its real job engine and the first generation of an index."""
    monkeypatch.setattr(app.rebuild, "POLL_S", 0.05)
    monkeypatch.setattr(index.replay, "FEW", 2)
    settings = Settings(home=make_home(tmp_path, ITEMS), log_level="error")
    write_fake_artifact(tmp_path / "artifacts" / FUSING)
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        finish(client, start(client, source="tiny", model="first"))
        yield client


def start(client: TestClient, **wanted: object) -> str:
    answer = client.post(f"{INDEX}/rebuild", json=wanted)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def finish(client: TestClient, job: str) -> dict[str, object]:
    wait_until(lambda: client.get(job).json()["state"] not in ("queued", "running"), seconds=60)
    body: dict[str, object] = client.get(job).json()
    assert body["state"] == "done", body
    return body


def append(client: TestClient, item_id: str, number: int) -> None:
    image = base64.b64encode(png(number)).decode()
    item = {"id": item_id, "text": f"text {number}", "image_base64": image, "metadata": {"number": number}}
    answer = client.post(f"{INDEX}/items", json={"items": [item]})
    assert answer.status_code == 200, answer.text


def delete(client: TestClient, item_id: str) -> None:
    answer = client.delete(f"{INDEX}/items/{item_id}")
    assert answer.status_code == 200, answer.text


def edit(client: TestClient, writer: int, stop: threading.Event) -> dict[str, int | None]:
    """Append, replace and delete items that no other writer touches; returns what of each was acknowledged last."""
    state: dict[str, int | None] = {}
    mine = [f"item-{number:04d}" for number in range(writer, 60, 4) if number % 5 != 4]
    step = 0
    while not stop.is_set() or step < 12:
        number = 20_000 + writer + 4 * step
        item_id = mine[step % len(mine)] if step % 3 else f"new-{writer}-{step % 21}"
        if step % 5 == 2 and state.get(item_id, 0) is not None and (item_id in state or item_id in mine):
            delete(client, item_id)
            state[item_id] = None
        else:
            append(client, item_id, number)
            state[item_id] = number
        step += 1
    return state


def check(snapshot: Snapshot, state: dict[str, int | None]) -> None:
    """Every item is as it was acknowledged, with the codes of the snapshot's model."""
    hasher = load_fake(Path(snapshot.manifest.artifact), snapshot.bits, "cpu")
    assert snapshot.manifest.fingerprint == hasher.fingerprint
    source = {f"item-{number:04d}" for number in range(ITEMS) if number % 5 != 4}
    expected = (source | state.keys()) - {item_id for item_id, number in state.items() if number is None}
    assert {item.id for item in snapshot.all_items()} | {one.id for one in snapshot.pending} == expected
    waiting = {one.id for one in snapshot.pending}
    for item_id, number in state.items():
        if number is None or item_id in waiting:
            continue
        item = snapshot.item(item_id)
        assert item.metadata == {"number": number}
        assert item.codes["image"] == [to_hex(hasher.encode_images([decode_image(png(number))]).codes[0])]
        assert item.codes["text"] == [to_hex(hasher.encode_texts([f"text {number}"]).codes[0])]


@pytest.mark.parametrize("change", CHANGES, ids=["same", "model", "bits", "fusing"])
def test_edits_during_a_rebuild_all_count(client: TestClient, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "indexes" / "tiny"
    append(client, "before", 19_000)
    delete(client, "item-0100")
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(edit, client, writer, stop) for writer in range(3)]
        finish(client, start(client, **change))
        stop.set()
        state: dict[str, int | None] = {"before": 19_000, "item-0100": None}
        for writer in writers:
            state |= writer.result()
    with Snapshot.open(path) as snapshot:
        assert (snapshot.generation, snapshot.pending) == (2, ())
        check(snapshot, state)
    finish(client, start(client))
    with Snapshot.open(path) as snapshot:
        assert (snapshot.generation, snapshot.edits) == (3, 0)
        check(snapshot, state)


def test_a_rollback_serves_what_was_appended_before_the_change(client: TestClient, tmp_path: Path) -> None:
    append(client, "before", 19_000)
    delete(client, "item-0100")
    finish(client, start(client, model="second", bits=128))
    append(client, "after", 19_001)
    pointer = client.post(f"{INDEX}/rollback").json()
    assert (pointer["generation"], pointer["model"]["name"]) == (1, "first")
    query = {"query": "text 19000", "target": "text", "limit": 1}
    hit = client.post("/v1/search/text", json=query).json()["hits"][0]
    assert (hit["id"], hit["distance"]) == ("before", 0)
    for item_id in ("after", "item-0100"):
        assert client.get(f"{INDEX}/items/{item_id}").json()["code"] == "item_not_found"
    shown = client.get(INDEX).json()
    assert (shown["items"], shown["not_encoded"]) == (DATABASE, 1)
    finish(client, start(client))
    assert client.get(f"{INDEX}/items/after").json()["metadata"] == {"number": 19_001}
    with Snapshot.open(tmp_path / "indexes" / "tiny") as snapshot:
        check(snapshot, {"before": 19_000, "after": 19_001, "item-0100": None})


def test_queries_over_changes_of_model_are_answered_by_whole_pairs(client: TestClient) -> None:
    stop = threading.Event()
    fingerprints = {
        load_fake(Path(model), bits, "cpu").fingerprint: (model, bits)
        for model, bits in (("first", 64), ("second", 128), (FUSING, 32))
    }

    def ask() -> set[tuple[int, str]]:
        seen = set()
        while not stop.is_set():
            answer = client.post("/v1/search/text", json={"query": "title 7", "target": "text", "limit": 1})
            body = answer.json()
            assert answer.status_code == 200, body
            assert body["hits"][0]["distance"] == 0  # of another model's code it would not be
            model, _ = fingerprints[answer.headers["x-model-fingerprint"]]
            assert body["model"]["name"] == model
            seen.add((body["index"]["generation"], model))
        return seen

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(ask) for _ in range(2)]
        running.append(pool.submit(lambda: edit(client, 0, stop) and set()))
        for model, bits in (("second", 128), (FUSING, 32), ("first", 64)):
            finish(client, start(client, model=model, bits=bits))
            client.post(f"{INDEX}/rollback")
            client.post(f"{INDEX}/rollback", json={"generation": max(client.get(INDEX).json()["generations"])})
        stop.set()
        seen = set().union(*(one.result() for one in running[:2]))
        assert running[2].result() is not None
    models = {1: "first", 2: "second", 3: FUSING, 4: "first"}
    assert {generation for generation, _ in seen} >= {1, 4}
    assert all(models[generation] == model for generation, model in seen)
