"""Every problem code, provoked; every error is problem+json."""

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from api_home import BITS, GatedHasher, Home, Serve, png, wait_until
from fastapi.testclient import TestClient
from httpx2 import Response

from app.jobs import DiskFull
from app.keys import digest_of
from app.models import WARM_UP_TEXT
from app.problems import CODES, MEDIA_TYPE
from index.ranking import Cursor
from model.fake import FakeHasher
from model.hasher import EncodedBatch, Hasher, Modality

TEXT = "/v1/search/text"
IMAGE = "/v1/search/image"


def assert_problem(answer: Response, code: str, *parts: str) -> None:
    body = answer.json()
    assert body["code"] == code, body
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.status_code == body["status"] == CODES[code][0]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}
    for part in parts:
        assert part in body["detail"]


@pytest.mark.parametrize(
    ("path", "body", "code", "part"),
    [
        (TEXT, {"query": ""}, "empty_input", "blank"),
        (TEXT, {"query": " \n\t"}, "empty_input", "blank"),
        (TEXT, {"queries": []}, "empty_input", "at least one"),
        (TEXT, {"queries": ["fine", ""]}, "empty_input", "text 1"),
        (TEXT, {}, "invalid_request", "query and queries"),
        (TEXT, {"query": "a", "queries": ["b"]}, "invalid_request", "query and queries"),
        (TEXT, {"query": 7}, "invalid_request", "found 7"),
        (TEXT, {"query": "a\ud800"}, "invalid_request", "query"),
        (TEXT, {"query": "a", "colour": 1}, "invalid_request", "colour"),
        (TEXT, {"query": "x" * 8193}, "invalid_request", "8,192"),
        (TEXT, {"queries": ["a"] * 65}, "invalid_request", "64"),
        (TEXT, {"query": "a", "limit": 0}, "invalid_request", "limit"),
        (TEXT, {"query": "a", "limit": 201}, "invalid_request", "200"),
        (TEXT, {"query": "a", "limit": "10"}, "invalid_request", "limit"),
        (TEXT, {"query": "a", "limit": True}, "invalid_request", "limit"),
        (TEXT, {"query": "a", "radius": -1}, "invalid_request", "radius"),
        (TEXT, {"query": "a", "radius": BITS + 1}, "invalid_request", "0 to 64"),
        (TEXT, {"query": "a", "target": "sound"}, "invalid_request", "target"),
        (TEXT, {"query": "a", "target": "pair"}, "modality_not_supported", "pair"),
        (TEXT, {"query": "a", "index": "nowhere"}, "index_not_found", "colors"),
        (TEXT, {"query": "a", "index": "../colors"}, "index_not_found", "colors"),
        (TEXT, {"query": "a", "filter": {"taste": "sweet"}}, "invalid_request", "taste"),
        (TEXT, {"query": "a", "filter": {"number": {"near": 3}}}, "invalid_request", "near"),
        (TEXT, {"query": "a", "filter": []}, "invalid_request", "filter"),
        (TEXT, {"query": "a", "cursor": "!"}, "invalid_request", "cursor"),
        (TEXT, {"queries": ["a", "b"], "cursor": "abc"}, "invalid_request", "one query"),
        (TEXT, [], "invalid_request", "body"),
        (IMAGE, {"image_base64": "no base64"}, "invalid_request", "base64"),
        (IMAGE, {"image_base64": base64.b64encode(b"no image").decode()}, "unsupported_image", "PNG"),
        (IMAGE, {"image_base64": base64.b64encode(png()).decode(), "limit": 0}, "invalid_request", "limit"),
        ("/v1/search/code", {"codes": []}, "invalid_request", "codes"),
        ("/v1/search/code", {"codes": ["xyz"]}, "invalid_request", "codes"),
        ("/v1/search/code", {"codes": ["00ff"]}, "invalid_request", "64 bits"),
        ("/v1/search/code", {"codes": ["00" * 8], "fingerprint": "0" * 64}, "model_index_mismatch", "0" * 64),
        ("/v1/search/item", {"item_id": "nothing"}, "item_not_found", "nothing"),
        ("/v1/search/item", {"item_id": "lime/11", "column": "image"}, "modality_not_supported", "lime/11"),
        ("/v1/encode/text", {"query": "a", "model": "demo", "index": "colors"}, "invalid_request", "index and model"),
        ("/v1/encode/text", {"query": "a", "bits": 32}, "invalid_request", "bits"),
        ("/v1/encode/text", {"query": "a", "model": "nothing"}, "model_not_found", "demo"),
        ("/v1/encode/text", {"query": "a", "model": "../demo"}, "model_not_found", "demo"),
        ("/v1/encode/text", {"query": "a", "model": "demo", "bits": 512}, "model_not_found", "512"),
        ("/v1/indexes/colors/rollback", {}, "invalid_request", "below"),
        ("/v1/indexes/colors/rollback", {"generation": 9}, "invalid_request", "9"),
        ("/v1/indexes/nowhere/rollback", {}, "index_not_found", "nowhere"),
        ("/v1/indexes/colors/rebuild", {"source": "/etc"}, "invalid_request", "known"),
        ("/v1/indexes/colors/rebuild", {"model": "nothing"}, "model_not_found", "nothing"),
        ("/v1/indexes/colors/rebuild", {"bits": 20}, "invalid_request", "bits"),
        ("/v1/indexes/colors/rebuild", {"path": "/etc"}, "invalid_request", "path"),
        ("/v1/jobs/nothing/cancel", {}, "job_not_found", "nothing"),
    ],
)
def test_what_cannot_be_answered(client: TestClient, path: str, body: object, code: str, part: str) -> None:
    data = json.dumps(body)  # keeps a lone surrogate as the escape that a caller would send
    assert_problem(client.post(path, content=data, headers={"content-type": "application/json"}), code, part)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nowhere", "route_not_found"),
        ("/v1/search", "route_not_found"),
        ("/docs", "route_not_found"),
        ("/ui/nothing.js", "route_not_found"),
        ("/ui/../settings.py", "route_not_found"),
        ("/ui/%2e%2e/settings.py", "route_not_found"),
        ("/v1/search/text", "method_not_allowed"),
        ("/v1/indexes/nowhere", "index_not_found"),
        ("/v1/indexes/colors/items/nothing", "item_not_found"),
        ("/v1/indexes/colors/items/nothing/image", "item_not_found"),
        ("/v1/indexes/colors/items/lime%2F11/image", "item_not_found"),
        ("/v1/indexes/colors/items/..%2f..%2fCURRENT", "item_not_found"),
        ("/v1/indexes/colors/items/a%00b", "item_not_found"),
        ("/v1/jobs/nothing", "job_not_found"),
    ],
)
def test_what_cannot_be_got(client: TestClient, path: str, code: str) -> None:
    assert_problem(client.get(path), code)


def test_a_wrong_method_names_the_right_one(client: TestClient) -> None:
    assert client.get(TEXT).headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"query": NaN}', "application/json"),
        (b"query=a", "application/x-www-form-urlencoded"),
        (b'{"query": "a"}', "text/plain"),
        (b"", "application/json"),
    ],
)
@pytest.mark.parametrize("path", [TEXT, IMAGE, "/v1/encode/image"])
def test_what_cannot_be_read(client: TestClient, path: str, content: bytes, content_type: str) -> None:
    assert_problem(client.post(path, content=content, headers={"content-type": content_type}), "invalid_request")


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("files", "data", "code"),
    [
        ([("file", b"not an image")], {}, "unsupported_image"),
        ([("file", truncated(png(size=(64, 64))))], {}, "unsupported_image"),
        ([("file", b"%PDF-1.7")], {}, "unsupported_image"),
        ([("file", b"")], {}, "empty_input"),
        ([("picture", png())], {}, "invalid_request"),
        ([("file", png())], {"limit": "0"}, "invalid_request"),
        ([("file", png())], {"limit": "many"}, "invalid_request"),
        ([("file", png())], {"radius": "65"}, "invalid_request"),
        ([("file", png())], {"colour": "red"}, "invalid_request"),
        ([("file", png())], {"filter": "{"}, "invalid_request"),
        ([("file", png())], {"filter": "7"}, "invalid_request"),
        ([("file", png())], {"index": ["colors", "colors"]}, "invalid_request"),
        ([("file", png())], {"cursor": "x"}, "invalid_request"),
        ([("file", png())] * 65, {}, "invalid_request"),
        ([("file", png())], {"filter": "x" * 70_000}, "invalid_request"),
    ],
)
def test_forms_that_cannot_be_answered(client: TestClient, files: list, data: dict, code: str) -> None:
    assert_problem(client.post(IMAGE, files=files, data=data), code)


def test_a_form_without_a_file(client: TestClient) -> None:
    answer = client.post(IMAGE, files={"limit": (None, "3")})
    assert_problem(answer, "empty_input", "file")


def test_a_form_without_a_boundary(client: TestClient) -> None:
    answer = client.post(IMAGE, content=b"--x", headers={"content-type": "multipart/form-data"})
    assert_problem(answer, "invalid_request", "boundary")


def test_too_many_pixels(serve: Serve) -> None:
    client = serve(limits={"image_pixels": 100})
    answer = client.post(IMAGE, files={"file": png(size=(11, 10))})
    assert_problem(answer, "image_too_many_pixels", "110", "100")


def test_a_body_declared_too_large_is_not_read(serve: Serve) -> None:
    client = serve(limits={"body_bytes": 2000})
    answer = client.post(TEXT, json={"query": "x" * 2000})
    assert_problem(answer, "payload_too_large", "2,000")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", [TEXT, IMAGE])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_that_grows_too_large(serve: Serve, path: str, content_type: str) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1000
            yield b" " * 1000

    client = serve(limits={"body_bytes": 2000})
    answer = client.post(path, content=chunks(), headers={"content-type": content_type})
    assert "content-length" not in answer.request.headers
    if path == TEXT and "multipart" in content_type:
        assert answer.json()["code"] in ("payload_too_large", "invalid_request")
    else:
        assert_problem(answer, "payload_too_large", "2,000")


def test_a_cursor_of_an_older_generation(home: Home, client: TestClient) -> None:
    body = {"query": "a red square", "limit": 2}
    cursor = client.post(TEXT, json=body).json()["next_cursor"]
    home.add_generation("colors", "demo")
    client.app.state.runtime.reload("colors")
    assert_problem(client.post(TEXT, json=body | {"cursor": cursor}), "cursor_expired", "generation 2", "generation 1")


def test_a_cursor_of_another_query(client: TestClient) -> None:
    cursor = client.post(TEXT, json={"query": "a red square", "limit": 2}).json()["next_cursor"]
    answer = client.post(TEXT, json={"query": "a blue square", "cursor": cursor})
    assert_problem(answer, "invalid_request", "cursor")


def test_a_forged_cursor_beyond_the_end(client: TestClient) -> None:
    body = {"query": "a red square", "limit": 2}
    cursor = Cursor.decode(client.post(TEXT, json=body).json()["next_cursor"])
    forged = replace(cursor, offset=10**9).encode()
    assert client.post(TEXT, json=body | {"cursor": forged}).json()["hits"] == []


def test_the_wrong_model_for_an_index(home: Home, serve: Serve) -> None:
    made_with = home.hashers["demo"](BITS).fingerprint
    home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
    now = home.hashers["demo"](BITS).fingerprint
    client = serve()
    assert_problem(client.post(TEXT, json={"query": "a"}), "model_index_mismatch", made_with, now)
    (refused,) = client.get("/v1/indexes").json()["refused"]
    assert (refused["name"], refused["code"]) == ("colors", "model_index_mismatch")


def test_an_index_whose_model_is_gone(home: Home, serve: Serve) -> None:
    (home.path / "artifacts" / "demo" / "manifest.json").unlink()
    client = serve()
    assert_problem(client.post(TEXT, json={"query": "a"}), "model_not_found", "demo", "colors")
    assert client.get("/v1/indexes/colors").json()["model_loaded"] is False


def test_a_damaged_index_does_not_keep_others_from_serving(home: Home, serve: Serve) -> None:
    home.add_generation("good", "demo")
    codes = home.path / "indexes" / "colors" / "generation-000001" / "image.codes"
    codes.write_bytes(codes.read_bytes()[:-1])
    client = serve()
    answer = client.post(TEXT, json={"query": "a", "index": "colors"})
    assert_problem(answer, "not_ready", "verify")
    assert str(home.path) not in answer.text
    assert client.post(TEXT, json={"query": "a", "index": "good"}).status_code == 200


def test_a_service_without_any_index(home: Home, serve: Serve) -> None:
    (home.path / "indexes").rename(home.path / "moved")
    assert_problem(serve().post(TEXT, json={"query": "a"}), "invalid_request", "none")


def test_a_service_that_is_still_opening(serve: Serve) -> None:
    opened = threading.Event()

    def load(*_: object) -> Hasher:
        assert opened.wait(10)
        return FakeHasher(BITS, seed="demo")

    client = serve(ready=False, load=load)
    assert_problem(client.get("/readyz"), "not_ready")
    assert_problem(client.post(TEXT, json={"query": "a"}), "not_ready")
    assert_problem(client.post(TEXT, json={"query": "a", "index": "colors"}), "not_ready")
    assert client.get("/livez").json() == {"status": "alive"}
    opened.set()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert client.post(TEXT, json={"query": "a"}).status_code == 200


def test_more_calls_than_the_queue_holds(home: Home, serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"queue": 1})
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, TEXT, json={"query": "a"})]
        hasher.entered.acquire(timeout=10)
        waiting.append(pool.submit(client.post, TEXT, json={"query": "a"}))
        wait_until(lambda: client.app.state.runtime.encoding.waiting(Modality.TEXT) == 1)
        answer = client.post(TEXT, json={"query": "a"})
        queues = client.get("/v1/models").json()["queues"]
        assert {"stage": "encoding", "modality": "text", "waiting": 1, "limit": 1} in queues
        hasher.gate.set()
        assert [call.result().status_code for call in waiting] == [200, 200]
    assert_problem(answer, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_a_call_that_takes_too_long(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"deadline_s": 0.05})
    assert_problem(client.post(TEXT, json={"query": "a"}), "deadline_exceeded", "0.05")
    hasher.gate.set()


def test_what_nobody_waits_for_is_not_encoded(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"deadline_s": 0.05})
    for _ in range(3):
        assert_problem(client.post(TEXT, json={"query": "a"}), "deadline_exceeded")
    hasher.gate.set()
    wait_until(lambda: client.post(TEXT, json={"query": "a"}).status_code == 200)
    assert sum(1 for _ in iter(lambda: hasher.entered.acquire(blocking=False), False)) == 2


class FailingHasher(FakeHasher):
    """Fails on every text but that of the warm-up."""

    def __init__(self, error: Exception) -> None:
        super().__init__(BITS, seed="demo")
        self.error = error

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        if list(texts) != [WARM_UP_TEXT]:
            raise self.error
        return super().encode_texts(texts)


def test_an_unforeseen_error_is_not_told_to_the_caller(serve: Serve) -> None:
    client = serve(load=lambda *_: FailingHasher(ValueError("secret path")))
    answer = client.post(TEXT, json={"query": "a"})
    assert_problem(answer, "internal", "log")
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


def test_a_device_without_memory(serve: Serve) -> None:
    error = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")  # named as torch names it
    client = serve(load=lambda *_: FailingHasher(error))
    assert_problem(client.post(TEXT, json={"query": "a"}), "device_out_of_memory")


def test_a_second_rebuild(client: TestClient) -> None:
    assert client.post("/v1/indexes/colors/rebuild").status_code == 202
    assert_problem(client.post("/v1/indexes/colors/rebuild"), "rebuild_running", "colors")


def test_a_page_of_another_site(client: TestClient) -> None:
    answer = client.post("/v1/indexes/colors/rebuild", headers={"sec-fetch-site": "cross-site"})
    assert_problem(answer, "forbidden", "cross-site")


def test_no_key(serve: Serve) -> None:
    client = serve(keys={"query": [digest_of("a key")]})
    assert_problem(client.post(TEXT, json={"query": "a"}), "unauthorized", "Authorization: Bearer")


def test_a_key_of_the_lower_role(serve: Serve) -> None:
    client = serve(keys={"query": [digest_of("a key")]})
    answer = client.post("/v1/indexes/colors/rebuild", headers={"Authorization": "Bearer a key"})
    assert_problem(answer, "forbidden", "role admin", "role query")


def test_a_full_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DiskFull("expected 5 bytes to stay free, found 4")  # `test_api_rebuild` fills a disk

    monkeypatch.setattr(client.app.state.jobs, "start", refuse)
    assert_problem(client.post("/v1/indexes/colors/rebuild"), "insufficient_storage", "5 bytes")


def test_every_code_has_a_test(request: pytest.FixtureRequest) -> None:
    source = "".join(path.read_text() for path in request.path.parent.glob("test_api_*.py"))
    assert [code for code in CODES if f'"{code}"' not in source] == []
