"""The log tells what happened and never what users sent, stored or hold: texts, file names, keys."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from api_home import BITS, Home, open_recorded_jobs, png, wait_until
from fastapi.testclient import TestClient
from tiny_home import load_fake, make_archive, make_home

from app.keys import digest_of
from app.main import create_app
from app.models import WARM_UP_TEXT
from app.settings import Settings
from model.fake import FakeHasher
from model.hasher import EncodedBatch

KEY = "crossbit_private-key"
TEXT = "private sentence"
FILE = "private-holiday.png"
STORED = "a red square"
FAILING = "private failure"


class Failing(FakeHasher):
    """Fails on one text, with a message that quotes it, as errors of libraries do."""

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        if FAILING in texts:
            try:
                int(texts[0])
            except ValueError as error:
                raise RuntimeError(f"cannot encode {texts}") from error
        return super().encode_texts(texts)


def requests(client: TestClient) -> Iterator[int]:
    """Requests of every outcome, each with something private."""
    key = {"Authorization": f"Bearer {KEY}"}
    for path in ("/v1/search/text", "/v1/encode/text"):
        for body in (
            {"query": TEXT},
            {"query": FAILING},
            {"query": [TEXT]},
            {"query": TEXT, TEXT: TEXT},
            {"query": TEXT, "index": TEXT},
            {"query": TEXT, "filter": {TEXT: TEXT}},
            {"query": TEXT, "cursor": TEXT},
        ):
            yield client.post(path, json=body, headers=key).status_code
    for data in (png(), b"private bytes"):
        yield client.post("/v1/search/image", files={"file": (FILE, data)}, headers=key).status_code
        yield client.post("/v1/search/image", files={FILE: (FILE, data)}, headers=key).status_code
    yield client.post("/v1/search/item", json={"item_id": TEXT}, headers=key).status_code
    yield client.post("/v1/search/item", json={"item_id": "red/00"}, headers=key).status_code
    yield client.get(f"/v1/indexes/colors/items/{TEXT}", headers=key).status_code
    yield client.get(f"/{TEXT}?key={KEY}&q={TEXT}", headers=key).status_code
    yield client.get("/v1/jobs", headers={"Authorization": f"Bearer {KEY}-wrong"}).status_code
    yield client.get("/v1/jobs", headers={"X-Request-Id": f"{TEXT} {KEY}"}).status_code


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_of_a_request_is_in_the_log(home: Home, capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    settings = Settings(home=home.path, log_level="debug", log_format=log_format, keys={"admin": [digest_of(KEY)]})
    hasher = Failing(BITS, seed="demo")
    app = create_app(settings, load_hasher=lambda *_: hasher, open_jobs=open_recorded_jobs)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        statuses = set(requests(client))
    assert statuses == {200, 401, 404, 415, 422, 500}
    log = capsys.readouterr().err
    assert log.count("request_finished") >= 20
    assert log.count("request_failed") == 2
    assert "in encode_texts" in log  # where it failed is told
    for private in ("private", STORED, KEY, digest_of(KEY), "red/00"):
        assert private not in log


def test_every_line_is_an_event_with_the_id_of_its_request(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=home.path, log_format="json")
    with TestClient(create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        capsys.readouterr()
        client.post("/v1/search/text", json={"query": ""}, headers={"X-Request-Id": "r-1"})
        (event,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert event.pop("took_ms") >= 0
    assert event.pop("timestamp")
    assert event == {
        "event": "request_finished",
        "level": "info",
        "method": "POST",
        "problem": "empty_input",
        "request_id": "r-1",
        "route": "/v1/search/text",
        "status": 400,
    }


def test_what_a_request_makes_a_thread_do_carries_its_id(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=home.path, log_format="json")
    home.add_artifact("other")
    with TestClient(create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        capsys.readouterr()
        body = {"query": "a", "model": "other"}
        assert client.post("/v1/encode/text", json=body, headers={"X-Request-Id": "r-2"}).status_code == 200
        events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(event["event"], event["request_id"]) for event in events] == [
        ("model_loaded", "r-2"),
        ("request_finished", "r-2"),
    ]


def test_nothing_of_the_items_is_in_the_log_of_a_rebuild(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(tmp_path, 40, bad=[3])
    make_archive(home / "data" / "bad" / "archive.zip", 40, bad=range(0, 40, 2))
    settings = Settings(home=home, log_level="debug", log_format="json")
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        for source, state in (("tiny", "done"), ("bad", "failed")):
            body = {"source": source, "model": "first"}
            job = client.post("/v1/indexes/demo/rebuild", json=body).json()
            wait_until(lambda url=f"/v1/jobs/{job['id']}", state=state: client.get(url).json()["state"] == state)
        assert client.post("/v1/search/text", json={"query": WARM_UP_TEXT, "target": "text"}).status_code == 200
        assert "\nrebuilds_failed_total 1.0\n" in client.get("/metrics").text
    log = capsys.readouterr().err
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"rebuild_queued", "rebuild_finished", "rebuild_stopped"} <= {line["event"] for line in lines}
    assert {line["job"] for line in lines if line["event"] == "index_swapped"} == {
        line["job"] for line in lines if line["event"] == "rebuild_finished"
    }
    for private in ("title", "item-0", ".png"):
        assert private not in log
