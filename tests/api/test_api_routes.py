"""Encode, indexes, items, jobs, models, probes, headers and the OpenAPI document."""

import base64
from collections.abc import Sequence

import numpy as np
import pytest
from api_home import BITS, Home, Serve, png
from fastapi.testclient import TestClient
from PIL import Image

from app.middleware import SECURITY_HEADERS
from index.codes import to_hex
from model.fake import FakeHasher
from model.hasher import EncodedBatch


def test_encode_gives_the_hashers_codes(client: TestClient) -> None:
    batch = FakeHasher(BITS, seed="demo").encode_texts(["a red square", "a blue square"])
    answer = client.post("/v1/encode/text", json={"queries": ["a red square", "a blue square"]}).json()
    assert answer["codes"] == [to_hex(code) for code in batch.codes]
    assert answer["bits"] == BITS
    assert answer["truncated_tokens"] == [0, 0]
    assert [margin["min"] for margin in answer["margins"]] == batch.margins.min(axis=1).tolist()
    assert answer["fingerprint"] == answer["model"]["fingerprint"] == FakeHasher(BITS, seed="demo").fingerprint


def test_a_code_does_not_depend_on_its_neighbours(client: TestClient) -> None:
    together = client.post("/v1/encode/image", files=[("file", png("red")), ("file", png("blue"))]).json()["codes"]
    alone = [
        client.post("/v1/encode/image", files={"file": png(color)}).json()["codes"][0] for color in ("red", "blue")
    ]
    assert together == alone


class HesitantHasher(FakeHasher):
    """Is unsure of three bits of every text."""

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        batch = super().encode_texts(texts)
        batch.margins[:, :3] = np.float32(1e-4)
        return batch


def test_near_zero_bits_are_counted(serve: Serve) -> None:
    client = serve(load=lambda *_: HesitantHasher(BITS, seed="demo"))
    assert client.post("/v1/encode/text", json={"query": "a"}).json()["near_zero_bits"] == [3]


def test_an_image_is_encoded_from_json(client: TestClient) -> None:
    image = Image.new("RGB", (8, 6), "teal")
    body = {"image_base64": base64.b64encode(png("teal")).decode()}
    (code,) = client.post("/v1/encode/image", json=body).json()["codes"]
    assert code == to_hex(FakeHasher(BITS, seed="demo").encode_images([image]).codes[0])


def test_a_model_may_be_named_with_its_bits(home: Home, serve: Serve) -> None:
    home.add_artifact("other")
    client = serve()
    for bits, expected in ((None, 64), (128, 128)):
        body = {"query": "a", "model": "other"} | ({} if bits is None else {"bits": bits})
        answer = client.post("/v1/encode/text", json=body).json()
        assert (answer["bits"], answer["model"]["name"]) == (expected, "other")


def test_the_list_of_indexes(client: TestClient) -> None:
    assert client.get("/v1/indexes").json() == {
        "indexes": [
            {
                "name": "colors",
                "generation": 1,
                "bits": BITS,
                "model": {"name": "demo", "fingerprint": FakeHasher(BITS, seed="demo").fingerprint},
                "source": "colors",
                "columns": {"image": 11, "pair": 0, "text": 12},
            }
        ],
        "refused": [],
    }


def test_one_index_in_full(client: TestClient) -> None:
    index = client.get("/v1/indexes/colors").json()
    assert (index["items"], index["generations"], index["texts"], index["device_kind"]) == (12, [1], "first", "cpu")
    assert index["fields"] == {"labels": "string", "number": "number", "warm": "boolean"}
    assert index["model_loaded"] is True
    image = index["columns"]["image"]
    assert (image["items"], image["codes"], image["distinct"]) == (11, 11, 10)
    assert image["diagnostics"]["largest_bucket"] == 2


def test_one_item(client: TestClient) -> None:
    item = client.get("/v1/indexes/colors/items/red%2F00").json()
    assert (item["id"], item["text"], item["content_hash"]) == ("red/00", "a red square", "0" * 64)
    assert item["codes"]["text"] == client.post("/v1/encode/text", json={"query": "a red square"}).json()["codes"]
    assert client.get(item["image_url"]).status_code == 200


def test_a_picture_is_kept_for_good_under_its_own_url(client: TestClient) -> None:
    url = client.get("/v1/indexes/colors/items/gold%2F03").json()["image_url"]
    answer = client.get(url)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "image/webp"
    assert answer.content.startswith(b"RIFF")


def test_a_picture_without_version_is_asked_for_again(client: TestClient) -> None:
    url = "/v1/indexes/colors/items/gold%2F03/image"
    first = client.get(url)
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(url, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_models_say_what_they_are(client: TestClient) -> None:
    body = client.get("/v1/models").json()
    assert body["models"] == [
        {
            "name": "demo",
            "method": "fake",
            "bits": BITS,
            "modalities": ["image", "text"],
            "fingerprint": FakeHasher(BITS, seed="demo").fingerprint,
            "device": "cpu",
            "indexes": ["colors"],
        }
    ]
    assert body["available"] == ["demo"]
    assert body["limits"]["queries"] == 64
    stages = ["encoding"] * 3 + ["loading", "decoding", "searching", "editing"]
    assert [queue["stage"] for queue in body["queues"]] == stages


def test_a_rebuild_is_accepted_and_followed(client: TestClient) -> None:
    body = {"source": "colors", "model": "demo", "bits": 32, "reuse": False, "dry_run": True}
    answer = client.post("/v1/indexes/colors/rebuild", json=body, headers={"idempotency-key": "once"})
    assert answer.status_code == 202
    assert client.get(answer.headers["location"]).json() == answer.json()
    assert answer.json() == {
        "id": "job-1",
        "index": "colors",
        "kind": "rebuild",
        "state": "running",
        "done": 3,
        "total": 12,
        "rate": 1.5,
        "eta_s": 6.0,
        "skipped": [],
    }
    assert client.app.state.jobs.asked == [{"index": "colors", **body, "idempotency_key": "once"}]
    assert client.get("/v1/jobs").json() == {"jobs": [answer.json()]}


def test_a_rebuild_needs_no_body(client: TestClient) -> None:
    assert client.post("/v1/indexes/colors/rebuild").status_code == 202
    (asked,) = client.app.state.jobs.asked
    assert (asked["source"], asked["model"], asked["reuse"], asked["dry_run"]) == (None, None, True, False)


def test_a_job_is_cancelled(client: TestClient) -> None:
    job = client.post("/v1/indexes/colors/rebuild").json()
    assert client.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_every_answer_has_security_headers(client: TestClient) -> None:
    for path in ("/", "/livez", "/nowhere", "/v1/indexes", "/ui/app.js"):
        headers = client.get(path).headers
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(("sent", "kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("é", False)])
def test_a_request_id_is_kept_if_it_is_plain(client: TestClient, sent: str, kept: bool) -> None:
    answered = client.get("/livez", headers={"x-request-id": sent.encode("latin-1")}).headers["x-request-id"]
    assert (answered == sent) is kept
    assert answered


def test_own_page_may_write(client: TestClient) -> None:
    answer = client.post("/v1/search/text", json={"query": "a"}, headers={"sec-fetch-site": "same-origin"})
    assert answer.status_code == 200


def test_the_openapi_document_covers_every_route(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert sorted(document["paths"]) == [
        "/livez",
        "/metrics",
        "/readyz",
        "/v1/encode/image",
        "/v1/encode/pair",
        "/v1/encode/text",
        "/v1/indexes",
        "/v1/indexes/{name}",
        "/v1/indexes/{name}/items",
        "/v1/indexes/{name}/items/{item_id}",
        "/v1/indexes/{name}/items/{item_id}/image",
        "/v1/indexes/{name}/rebuild",
        "/v1/indexes/{name}/rollback",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/events",
        "/v1/models",
        "/v1/search/code",
        "/v1/search/image",
        "/v1/search/item",
        "/v1/search/pair",
        "/v1/search/text",
    ]
    for path in document["paths"].values():
        for operation in path.values():
            problems = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert "500" in problems
            assert all(list(answer["content"]) == ["application/problem+json"] for answer in problems.values())


def test_the_openapi_document_shows_both_image_bodies(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/search/image"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    assert content["multipart/form-data"]["schema"]["required"] == ["file"]
