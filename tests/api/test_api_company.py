"""Many callers at once over HTTP: codes are those of lone inputs, and whoever hangs up is not waited for."""

import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import golden
import pytest
from api_home import BITS, GatedHasher, Home, Serve, open_recorded_jobs, png, runtime_of, wait_until
from fastapi.testclient import TestClient
from httpx2 import Response
from live_service import listening
from test_api_metrics import told, value

from app.main import create_app
from app.settings import Settings
from model.fake import FakeHasher
from model.hasher import Modality
from model.images import decode_image
from model.items import Item, ItemArchive, caption

TEXT = "/v1/encode/text"
IMAGE = "/v1/encode/image"
Ask = Callable[[TestClient], Response]


@pytest.mark.slow
def test_concurrent_calls_get_the_golden_codes(serve: Serve, archive: ItemArchive) -> None:
    codes, items = golden.golden_codes(), {item.id: item for item in archive.items}
    texts = [(caption(items[name], archive.info.captions[0]), code) for name, code in codes["texts"].items()]
    images = [(_png(archive, items[name]), code) for name, code in codes["images"].items()]
    hasher = golden.golden_hasher()
    client = serve(load=lambda *_: hasher, encode_batch=5, encode_processes=2)
    asked = [_texts(texts[row : row + count]) for row in range(len(texts)) for count in (1, 7)]
    asked += [_images(images[row : row + count]) for row in range(0, len(images), 4) for count in (1, 3)]
    random.Random(7).shuffle(asked)  # noqa: S311 - an order of calls
    bad = [_texts([(" ", "")])[0], _images([(b"not an image", "")])[0]] * 4
    with ThreadPoolExecutor(12) as pool:
        refused = [pool.submit(ask, client) for ask in bad]
        answers = [(pool.submit(ask, client), expected) for ask, expected in asked]
        assert {answer.result().status_code for answer in refused} == {400, 415}
        assert [answer.result().json()["codes"] for answer, _ in answers] == [expected for _, expected in answers]
    figures = told(client)
    inputs, batches = (value(figures, f"encode_batch_size_{part}", modality="text") for part in ("sum", "count"))
    assert batches < inputs == sum(len(expected) for ask, expected in asked if ask.__name__ == "ask_texts")


def _texts(some: list[tuple[str, str]]) -> tuple[Ask, list[str]]:
    def ask_texts(client: TestClient) -> Response:
        return client.post(TEXT, json={"model": "demo", "queries": [text for text, _ in some]})

    return ask_texts, [code for _, code in some]


def _images(some: list[tuple[bytes, str]]) -> tuple[Ask, list[str]]:
    def ask_images(client: TestClient) -> Response:
        return client.post(IMAGE, data={"model": "demo"}, files=[("file", data) for data, _ in some])

    return ask_images, [code for _, code in some]


def _png(archive: ItemArchive, item: Item) -> bytes:
    stored = BytesIO()
    decode_image(archive.read_image(item)).save(stored, "PNG")
    return stored.getvalue()


def _request(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_what_a_caller_asked_for_leaves_the_queue_when_it_hangs_up(home: Home) -> None:
    hasher = GatedHasher(BITS)
    settings = Settings(home=home.path, log_level="error", refresh_s=3600)
    app = create_app(settings, load_hasher=lambda *_: hasher, open_jobs=open_recorded_jobs)
    with listening(app) as address, socket.create_connection(address) as stays:
        encoding = app.state.runtime.encoding
        stays.sendall(_request("/v1/search/text", b'{"query": "stays"}'))
        assert hasher.entered.acquire(timeout=10)
        with socket.create_connection(address) as leaves:
            leaves.sendall(_request("/v1/search/text", b'{"query": "leaves"}'))
            wait_until(lambda: encoding.waiting(Modality.TEXT) == 1)
        wait_until(lambda: encoding.waiting(Modality.TEXT) == 0)
        hasher.gate.set()
        assert stays.recv(15) == b"HTTP/1.1 200 OK"
        assert not hasher.entered.acquire(timeout=0.05)
    figures = app.state.runtime.metrics.render().decode()
    assert value(figures, "http_requests_total", route="/v1/search/text", status="none") == 1


def test_a_form_is_read_before_its_caller_is_watched(client: TestClient) -> None:
    for path in ("/v1/search/image", IMAGE):
        assert client.post(path, files={"file": png()}).status_code == 200


def test_timings_add_up(client: TestClient) -> None:
    took = client.post("/v1/search/image", files={"file": png()}).json()["took_ms"]
    stages = took["queue"] + took["decode"] + took["encode"] + took["search"]
    assert 0 < took["encode"] < stages <= took["total"]


def test_a_swap_in_a_full_queue_mixes_no_models(home: Home, serve: Serve) -> None:
    old, new = GatedHasher(BITS), GatedHasher(BITS, seed="retrained")
    models = [old, new]
    client = serve(load=lambda *_: models[0])
    texts = [f"text {number}" for number in range(6)]

    def ask(text: str) -> Response:
        return client.post(TEXT, json={"query": text})

    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(ask, texts[0])]
        assert old.entered.acquire(timeout=10)
        calls += [pool.submit(ask, text) for text in texts[1:3]]
        encoding = runtime_of(client).encoding
        wait_until(lambda: encoding.waiting(Modality.TEXT) == 2)
        del models[0]
        home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
        home.add_generation("colors", "demo")
        runtime_of(client).reload("colors")
        calls += [pool.submit(ask, text) for text in texts[3:]]
        wait_until(lambda: encoding.waiting(Modality.TEXT) == 5)
        old.gate.set()
        new.gate.set()
        found = [call.result().json() for call in calls]
    for number, (text, answer) in enumerate(zip(texts, found, strict=True)):
        hasher = old if number < 3 else new
        expected = hasher.encode_texts([text]).codes[0].tobytes().hex()
        assert (answer["codes"], answer["fingerprint"]) == ([expected], hasher.fingerprint)
