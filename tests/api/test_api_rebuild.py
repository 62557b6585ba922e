"""The service with its real job engine: an index made, rebuilt with another model and rolled back over HTTP."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_home import wait_until
from fastapi.testclient import TestClient
from tiny_home import load_fake, make_home

from app.main import create_app
from app.settings import Settings

ITEMS = 40
QUERY = {"query": "title 7", "target": "text", "limit": 1}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(home=make_home(tmp_path, ITEMS), log_level="error")
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        yield client


def rebuild(client: TestClient, **body: object) -> dict:
    answer = client.post("/v1/indexes/tiny/rebuild", json=body)
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    wait_until(lambda: client.get(location).json()["state"] not in ("queued", "running"), seconds=30)
    job: dict = client.get(location).json()
    return job


def test_make_rebuild_and_roll_back(client: TestClient) -> None:
    job = rebuild(client, source="tiny", model="first")
    assert (job["state"], job["done"], job["total"], job["skipped"]) == ("done", 32, 32, [])
    first = client.post("/v1/search/text", json=QUERY).json()
    assert (first["hits"][0]["id"], first["hits"][0]["distance"]) == ("item-0007", 0)
    assert first["hits"][0]["metadata"] == {"number": 7, "labels": ["odd", "strange"]}
    picture = client.get(first["hits"][0]["image_url"])
    assert client.post("/v1/search/image", files={"file": io.BytesIO(picture.content)}).status_code == 200

    assert rebuild(client, model="second", bits=128)["state"] == "done"
    second = client.post("/v1/search/text", json=QUERY).json()
    assert (second["index"]["generation"], second["model"]["name"], second["hits"][0]["distance"]) == (2, "second", 0)

    assert client.post("/v1/indexes/tiny/rollback").json()["generation"] == 1
    assert client.post("/v1/search/text", json=QUERY).json()["model"] == first["model"]


def test_an_index_that_is_not_there_needs_a_source_and_a_model(client: TestClient) -> None:
    assert client.post("/v1/indexes/nowhere/rebuild").json()["code"] == "index_not_found"
    assert client.post("/v1/indexes/No where/rebuild", json={"source": "tiny"}).json()["code"] == "index_not_found"


def test_the_same_key_gives_the_same_job(client: TestClient) -> None:
    body, key = {"source": "tiny", "model": "first"}, {"idempotency-key": "once"}
    ids = [client.post("/v1/indexes/tiny/rebuild", json=body, headers=key).json()["id"] for _ in range(2)]
    assert ids[0] == ids[1]
    wait_until(lambda: client.get(f"/v1/jobs/{ids[0]}").json()["state"] == "done", seconds=30)
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == ids[:1]


def test_a_rebuild_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=make_home(tmp_path, ITEMS), log_level="error", min_free_bytes=2**60)
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        answer = client.post("/v1/indexes/tiny/rebuild", json={"source": "tiny", "model": "first"})
        assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_storage")
        assert client.get("/v1/jobs").json() == {"jobs": []}


def test_rebuilds_are_counted_in_the_metrics(client: TestClient) -> None:
    rebuild(client, source="tiny", model="first")
    rebuild(client)
    text = client.get("/metrics").text
    for outcome, items in (("encoded", 32), ("reused", 32), ("skipped", 0)):
        assert f'rebuild_items_total{{outcome="{outcome}"}} {items}.0' in text
    assert "rebuild_shards_total 2.0" in text
    assert 'worker_beat_age_seconds{worker="' in text
    assert "rebuild_duration_seconds_count 2.0" in text
    assert 'index_generation{index="tiny"} 2.0' in text
