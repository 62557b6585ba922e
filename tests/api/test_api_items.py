"""Appending and deleting items over HTTP: encoded as queries are, on disk and in every answer when the call returns."""

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_home import BITS, GatedHasher, Home, Serve, png, runtime_of, wait_until
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL.Image import Image

from app.inputs import FORM
from index.codes import to_hex
from index.generations import IndexDirectory
from index.lock import writing
from index.originals import Originals
from index.snapshot import Snapshot
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import EncodedBatch, Modality
from model.images import decode_image

ITEMS = "/v1/indexes/colors/items"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


CRIMSON = {
    "id": "crimson/00",
    "image_base64": base64_of(png("crimson")),
    "text": "a crimson square",
    "metadata": {"number": 99, "labels": ["crimson"]},
}


def append(client: TestClient, *items: dict[str, object]) -> Response:
    return client.post(ITEMS, json={"items": list(items)})


def nearest(client: TestClient, query: str, **changes: object) -> dict[str, object]:
    body = {"query": query, "target": "text", "limit": 1} | changes
    hit: dict[str, object] = client.post("/v1/search/text", json=body).json()["hits"][0]
    return hit


def on_disk(home: Home) -> Snapshot:
    return Snapshot.open(home.path / "indexes" / "colors")


def test_an_appended_item_is_on_disk_and_in_the_next_answer(home: Home, client: TestClient) -> None:
    answer = append(client, CRIMSON)
    assert answer.status_code == 200
    hit = nearest(client, "a crimson square", filter={"number": 99})
    assert (hit["id"], hit["distance"], hit["text"]) == ("crimson/00", 0, "a crimson square")
    with on_disk(home) as snapshot:
        item = snapshot.item("crimson/00")
    hasher = FakeHasher(BITS, seed="demo")
    image = hasher.encode_images([decode_image(png("crimson"))]).codes[0]
    text = hasher.encode_texts(["a crimson square"]).codes[0]
    assert item.codes == {"image": [to_hex(image)], "text": [to_hex(text)]}
    assert item.metadata == CRIMSON["metadata"]


def test_the_answer_says_where_the_items_went(client: TestClient) -> None:
    answer = append(
        client, CRIMSON, {"id": "long", "text": "word " * 300}, {"id": "seen", "image_base64": base64_of(png())}
    )
    fingerprint = FakeHasher(BITS, seed="demo").fingerprint
    body = answer.json()
    assert {name: body[name] for name in ("appended", "position", "truncated_tokens", "index", "model")} == {
        "appended": 3,
        "position": 3,
        "truncated_tokens": [0, 44, 0],
        "index": {"name": "colors", "generation": 1},
        "model": {"name": "demo", "fingerprint": fingerprint},
    }
    assert (answer.headers["x-index-generation"], answer.headers["x-model-fingerprint"]) == ("1", fingerprint)
    shown = client.get("/v1/indexes/colors").json()
    assert (shown["items"], shown["edits"], shown["not_encoded"]) == (15, 3, 0)


def test_what_an_item_was_made_from_is_kept(home: Home, client: TestClient) -> None:
    append(client, CRIMSON)
    originals = Originals(home.path / "indexes" / "colors")
    kept = [path.read_bytes() for path in originals.path.glob("??/*")]
    assert png("crimson") in kept
    (document,) = [json.loads(content) for content in kept if content.startswith(b"{")]
    assert (document["texts"], document["metadata"]) == ({"text": ["a crimson square"]}, CRIMSON["metadata"])


def test_an_item_replaces_the_one_that_has_its_id(client: TestClient) -> None:
    append(client, {"id": "red/00", "text": "another red"})
    assert client.get("/v1/indexes/colors").json()["items"] == 12
    assert nearest(client, "another red")["id"] == "red/00"
    assert nearest(client, "a red square")["id"] != "red/00"
    assert "image_url" not in client.get(f"{ITEMS}/red%2F00").json()


def test_an_item_comes_in_a_form_too(client: TestClient) -> None:
    fields = {"id": "crimson/00", "text": "a crimson square", "metadata": json.dumps(CRIMSON["metadata"])}
    assert client.post(ITEMS, data=fields, files={"file": png("crimson")}).status_code == 200
    by_form = client.get(f"{ITEMS}/crimson%2F00").json()
    append(client, CRIMSON)
    assert client.get(f"{ITEMS}/crimson%2F00").json() == by_form


def test_a_model_that_fuses_makes_pair_codes(home: Home, serve: Serve) -> None:
    home.add_artifact("demo", FusingFakeHasher)
    home.add_generation("colors", "demo")
    client = serve()
    append(client, CRIMSON, {"id": "text alone", "text": "words"})
    both, alone = (client.get(f"{ITEMS}/{name}").json() for name in ("crimson%2F00", "text alone"))
    pair = FusingFakeHasher(BITS).encode_pairs([decode_image(png("crimson"))], ["a crimson square"]).codes[0]
    assert (both["codes"]["pair"], both["presence"]) == ([to_hex(pair)], {"image": True, "text": True})
    assert (alone["codes"]["pair"], alone["presence"]) == (alone["codes"]["text"], {"image": False, "text": True})


def test_a_deleted_item_is_gone_from_disk_and_from_the_next_answer(home: Home, client: TestClient) -> None:
    answer = client.delete(f"{ITEMS}/red%2F00")
    assert answer.json() == {"id": "red/00", "position": 1, "index": {"name": "colors", "generation": 1}}
    assert client.get(f"{ITEMS}/red%2F00").json()["code"] == "item_not_found"
    assert nearest(client, "a red square")["id"] != "red/00"
    with on_disk(home) as snapshot:
        assert not snapshot.has("red/00")
    assert client.delete(f"{ITEMS}/red%2F00").json()["code"] == "item_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "red%2F00", "DELETE, GET, HEAD"),
        ("DELETE", "red%2F00/image", "GET, HEAD"),
        ("POST", "red%2F00/image", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, f"{ITEMS}/{path}")
    assert (answer.json()["code"], answer.headers["allow"]) == ("method_not_allowed", allowed)


def test_one_bad_item_keeps_all_out(client: TestClient) -> None:
    bad = {"id": "bad", "image_base64": base64_of(b"no image")}
    assert append(client, CRIMSON, bad).json()["code"] == "unsupported_image"
    assert client.get("/v1/indexes/colors").json()["edits"] == 0


@pytest.mark.parametrize(
    ("item", "code", "part"),
    [
        ({"id": "x"}, "empty_input", "'x', found neither"),
        ({"id": "x", "text": " "}, "empty_input", "blank"),
        ({"id": "x", "image_base64": "?"}, "invalid_request", "base64"),
        ({"id": "x", "text": "a", "colour": 1}, "invalid_request", "colour"),
        ({"id": "x", "text": "a", "metadata": []}, "invalid_request", "metadata"),
        ({"id": "x", "text": "a", "metadata": {"n": float("nan")}}, "invalid_request", "finite"),
        ({"id": "x", "text": "a", "metadata": {"n": "\ud800"}}, "invalid_request", "hex escape"),
        ({"text": "a"}, "invalid_request", "id"),
        ({"id": "", "text": "a"}, "invalid_request", "id"),
        ({"id": 7, "text": "a"}, "invalid_request", "id"),
        ({"id": "a\0b", "text": "a"}, "invalid_request", "printable"),
        ({"id": "a\nb", "text": "a"}, "invalid_request", "printable"),
        ({"id": "../CURRENT", "text": "a"}, "invalid_request", "path"),
        ({"id": "/etc/passwd", "text": "a"}, "invalid_request", "path"),
        ({"id": "a/image", "text": "a"}, "invalid_request", "/image"),
    ],
)
def test_what_cannot_be_appended(client: TestClient, item: dict[str, object], code: str, part: str) -> None:
    content = json.dumps({"items": [item]})  # keeps NaN and a lone surrogate as a caller would send them
    answer = client.post(ITEMS, content=content, headers={"content-type": "application/json"})
    assert answer.json()["code"] == code, answer.text
    assert part in answer.json()["detail"]
    assert client.get("/v1/indexes/colors").json()["edits"] == 0


def test_an_id_comes_once_in_a_call(client: TestClient) -> None:
    answer = append(client, {"id": "x", "text": "a"}, {"id": "x", "text": "b"})
    assert (answer.json()["code"], "'x' again" in answer.json()["detail"]) == ("invalid_request", True)


def test_a_form_holds_one_item(client: TestClient) -> None:
    answer = client.post(ITEMS, data={"id": "x"}, files=[("file", png()), ("file", png())])
    assert answer.json()["code"] == "invalid_request"
    assert FORM in client.post(ITEMS, data={"id": "x"}).json()["detail"]


def test_the_metadata_of_a_form_is_unicode(client: TestClient) -> None:
    answer = client.post(ITEMS, data={"id": "x", "metadata": '{"n": "\\ud800"}'}, files={"file": png()})
    assert (answer.json()["code"], "Unicode" in answer.json()["detail"]) == ("invalid_request", True)


def test_an_index_that_is_not_there_takes_no_items(client: TestClient) -> None:
    assert client.post("/v1/indexes/nowhere/items", json={"items": [CRIMSON]}).json()["code"] == "index_not_found"
    assert client.delete("/v1/indexes/nowhere/items/x").json()["code"] == "index_not_found"


def test_a_model_that_is_gone_appends_nothing(home: Home, serve: Serve) -> None:
    home.add_artifact("gone")
    home.add_generation("colors", "gone")
    (home.path / "artifacts" / "gone" / "manifest.json").unlink()
    client = serve()
    assert append(client, CRIMSON).json()["code"] == "model_not_found"
    assert client.delete(f"{ITEMS}/red%2F00").status_code == 200


class SwappingHasher(FakeHasher):
    """While it encodes the crimson text for the first time, another generation takes over beside the service."""

    home: Home

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        directory = IndexDirectory(self.home.path / "indexes" / "colors")
        if list(texts) == [CRIMSON["text"]] and directory.generations() == [1]:
            self.home.add_generation("colors", "next", bits=128)
        return super().encode_texts(texts)


def test_an_item_is_encoded_again_where_another_model_took_over(home: Home, serve: Serve) -> None:
    hasher = SwappingHasher(BITS, seed="demo")
    hasher.home = home
    home.add_artifact("demo", lambda _: hasher)
    home.add_artifact("next")
    client = serve()
    body = append(client, CRIMSON).json()
    assert (body["index"]["generation"], body["model"]["name"], body["position"]) == (2, "next", 1)
    hit = nearest(client, "a crimson square")
    assert (hit["id"], hit["distance"], len(client.get(f"{ITEMS}/crimson%2F00").json()["codes"]["text"][0])) == (
        "crimson/00",
        0,
        32,
    )


class RestlessHasher(FakeHasher):
    """Whenever it encodes the crimson text, the model of the other name takes over."""

    home: Home
    other: str

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        if list(texts) == [CRIMSON["text"]]:
            self.home.add_generation("colors", self.other)
        return super().encode_texts(texts)


def test_models_that_take_turns_get_no_code_of_each_other(home: Home, serve: Serve) -> None:
    for name, other in (("demo", "next"), ("next", "demo")):
        hasher = RestlessHasher(BITS, seed=name)
        hasher.home, hasher.other = home, other
        home.add_artifact(name, lambda _, hasher=hasher: hasher)
    client = serve()
    assert append(client, CRIMSON).json()["code"] == "model_index_mismatch"
    with on_disk(home) as snapshot:
        assert (snapshot.position, snapshot.generation) == (0, 4)


def test_items_wait_in_the_queue_of_what_is_encoded(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"queue": 1})
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(append, client, {"id": "0", "text": "a"})]
        assert hasher.entered.acquire(timeout=10)  # else both may be encoded together
        running.append(pool.submit(append, client, {"id": "1", "text": "a"}))
        wait_until(lambda: runtime_of(client).encoding.waiting(Modality.TEXT) == 1)
        answer = append(client, {"id": "x", "text": "a"})
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("overloaded", "1")
        hasher.gate.set()
        assert [call.result().status_code for call in running] == [200, 200]
    assert client.get("/v1/indexes/colors").json()["items"] == 14


def test_the_deadline_holds_for_items(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"deadline_s": 0.05})
    assert append(client, {"id": "x", "text": "a"}).json()["code"] == "deadline_exceeded"
    hasher.gate.set()


def test_an_index_that_another_writer_keeps_is_told_to_be_busy(
    home: Home, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.editing.writing", lambda path, wait_s: writing(path, wait_s=0))
    with writing(home.path / "indexes" / "colors"):
        answers = [append(client, CRIMSON), client.delete(f"{ITEMS}/red%2F00")]
    assert [(one.json()["code"], one.headers["retry-after"]) for one in answers] == [("overloaded", "1")] * 2
    assert append(client, CRIMSON).status_code == 200


def test_too_many_edits_have_to_be_merged_first(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.editing.MAX_EDITS", 1)
    assert append(client, CRIMSON).status_code == 200
    answer = append(client, {"id": "x", "text": "a"})
    assert (answer.json()["code"], "rebuild" in answer.json()["detail"]) == ("overloaded", True)


def test_edits_of_many_callers_all_count(home: Home, client: TestClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        appended = [
            pool.submit(append, client, {"id": f"new/{number}", "text": f"text {number}"}) for number in range(20)
        ]
        deleted = [pool.submit(client.delete, f"{ITEMS}/{name}") for name in ("red%2F00", "green%2F01", "blue%2F02")]
        positions = sorted(call.result().json()["position"] for call in [*appended, *deleted])
    assert positions == list(range(1, 24))
    with on_disk(home) as snapshot:
        assert snapshot.item_count == 12 + 20 - 3


class SlowImages(FakeHasher):
    """Counts the images that it has encoded."""

    encoded = 0

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        type(self).encoded += len(images)
        return super().encode_images(images)


def test_nothing_is_encoded_of_an_image_that_does_not_decode(serve: Serve) -> None:
    client = serve(load=lambda *_: SlowImages(BITS, seed="demo"))
    before = SlowImages.encoded
    append(client, CRIMSON, {"id": "bad", "image_base64": base64_of(b"no image")})
    assert SlowImages.encoded == before


def test_the_log_is_where_the_documentation_says(home: Home, client: TestClient) -> None:
    append(client, CRIMSON)
    assert [path.name for path in Path(home.path / "indexes" / "colors" / "log").iterdir()] == ["000000000001.log"]


@pytest.mark.parametrize("as_form", [True, False])
def test_metadata_nests_as_deep_as_it_can_be_read_again(home: Home, client: TestClient, as_form: bool) -> None:
    def send(depth: int) -> Response:
        metadata = f'{{"deep": {"[" * depth}{"]" * depth}}}'
        if as_form:
            return client.post(ITEMS, data={"id": "x", "metadata": metadata}, files={"file": png()})
        content = f'{{"items": [{{"id": "x", "text": "a", "metadata": {metadata}}}]}}'
        return client.post(ITEMS, content=content, headers={"content-type": "application/json"})

    assert send(100).status_code == 200
    for depth in (300, 900, 4000):
        assert send(depth).json()["code"] == "invalid_request"
    with on_disk(home) as snapshot:
        assert (snapshot.position, snapshot.item("x").id) == (1, "x")


def test_numbers_of_any_size_are_kept(client: TestClient) -> None:
    assert append(client, {"id": "x", "text": "a", "metadata": {"n": 10**400}}).status_code == 200
    assert client.get(f"{ITEMS}/x").json()["metadata"] == {"n": 10**400}
    assert nearest(client, "a", filter={"n": {"gt": 5}})["id"] == "x"
