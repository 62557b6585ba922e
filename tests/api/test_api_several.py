"""Several indexes and models at once: chosen by configuration, and followed on disk without losing a query."""

import gc
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from api_home import BITS, GatedHasher, Home, Serve, runtime_of
from fastapi.testclient import TestClient

from index.generations import IndexDirectory
from model.fake import FakeHasher

TEXT = "/v1/search/text"
BODY = {"query": "a red square", "target": "text", "limit": 1}


def names(client: TestClient) -> list[str]:
    return [index["name"] for index in client.get("/v1/indexes").json()["indexes"]]


def refused(client: TestClient) -> dict[str, str]:
    return {index["name"]: index["code"] for index in client.get("/v1/indexes").json()["refused"]}


def ask(client: TestClient, index: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(TEXT, json=BODY | {"index": index}).json()
    return answer


def folder(home: Home, index: str) -> Path:
    return home.path / "indexes" / index


def retrain(home: Home, artifact: str) -> None:
    home.add_artifact(artifact, lambda bits: FakeHasher(bits, seed="retrained"))


@pytest.fixture
def several(home: Home) -> Home:
    """Also a second index on a second model."""
    home.add_artifact("other")
    home.add_generation("shapes", "other", bits=128)
    return home


def test_every_index_is_served_with_its_own_model(several: Home, serve: Serve) -> None:
    client = serve()
    answers = [ask(client, "colors"), ask(client, "shapes")]
    assert [answer["model"]["name"] for answer in answers] == ["demo", "other"]
    assert [answer["hits"][0]["distance"] for answer in answers] == [0, 0]


def test_the_settings_choose_what_is_served(several: Home, serve: Serve) -> None:
    client = serve(indexes=("shapes",))
    assert names(client) == ["shapes"]
    assert client.post(TEXT, json=BODY).json()["index"]["name"] == "shapes"  # the only one
    assert ask(client, "colors")["code"] == "index_not_found"
    several.add_generation("colors", "demo")
    runtime_of(client).refresh()
    runtime_of(client).reload("colors")  # as a rebuild does
    assert names(client) == ["shapes"]


def test_an_index_that_the_settings_name_is_served_once_it_is_there(several: Home, serve: Serve) -> None:
    client = serve(indexes=("colors", "later"))
    several.add_generation("later", "other")
    runtime_of(client).refresh()
    assert names(client) == ["colors", "later"]


def test_an_index_whose_folder_is_gone_is_let_go(several: Home, serve: Serve) -> None:
    client = serve()
    several.path.joinpath("indexes", "shapes").rename(several.path / "moved")
    runtime_of(client).refresh()
    assert names(client) == ["colors"]
    assert "known: colors" in ask(client, "shapes")["detail"]
    (several.path / "moved").rename(folder(several, "shapes"))
    runtime_of(client).refresh()
    assert ask(client, "shapes")["hits"][0]["distance"] == 0


def test_a_refused_index_whose_folder_is_gone_is_let_go(several: Home, serve: Serve) -> None:
    (folder(several, "shapes") / "generation-000001" / "text.codes").write_bytes(b"")
    client = serve()
    assert refused(client) == {"shapes": "not_ready"}
    shutil.rmtree(folder(several, "shapes"))
    runtime_of(client).refresh()
    assert refused(client) == {}


def test_a_query_in_flight_outlives_the_folder_of_its_index(home: Home, serve: Serve) -> None:
    gated = GatedHasher(BITS)
    home.add_artifact("demo", lambda _: gated)
    client = serve()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, client, "colors")
        assert gated.entered.acquire(timeout=10)
        shutil.rmtree(folder(home, "colors"))
        runtime_of(client).refresh()
        assert names(client) == []
        gated.gate.set()
        assert running.result()["hits"][0]["id"] == "red/00"


def test_a_new_index_that_does_not_open_is_told_as_refused(home: Home, serve: Serve) -> None:
    client = serve()
    home.add_generation("broken", "demo")
    (folder(home, "broken") / "generation-000001" / "text.codes").write_bytes(b"")
    runtime_of(client).refresh()
    assert (names(client), refused(client)) == (["colors"], {"broken": "not_ready"})


def test_a_damaged_pointer_is_told_once(home: Home, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client = serve()
    home.add_generation("broken", "demo")
    (folder(home, "broken") / "CURRENT").write_bytes(b"?")
    for _ in range(3):
        runtime_of(client).refresh()
    assert capsys.readouterr().err.count("index_refused") == 1


def test_a_refusal_at_start_names_both_fingerprints(home: Home, serve: Serve) -> None:
    built, retrained = FakeHasher(BITS, seed="demo").fingerprint, FakeHasher(BITS, seed="retrained").fingerprint
    retrain(home, "demo")
    client = serve()
    (entry,) = client.get("/v1/indexes").json()["refused"]
    answer = ask(client, "colors")
    assert entry["code"] == answer["code"] == "model_index_mismatch"
    for detail in (entry["detail"], answer["detail"]):
        assert built in detail
        assert retrained in detail


def test_codes_of_another_model_are_refused_naming_both_fingerprints(several: Home, serve: Serve) -> None:
    client = serve()
    codes = client.post("/v1/encode/text", json={"query": "a", "model": "other"}).json()
    body = {"codes": codes["codes"], "fingerprint": codes["fingerprint"], "index": "colors"}
    answer = client.post("/v1/search/code", json=body).json()
    assert answer["code"] == "model_index_mismatch"
    assert codes["fingerprint"] in answer["detail"]
    assert FakeHasher(BITS, seed="demo").fingerprint in answer["detail"]


def test_an_index_is_served_when_the_model_that_made_it_comes_back(home: Home, serve: Serve) -> None:
    retrain(home, "demo")
    client = serve()
    assert refused(client) == {"colors": "model_index_mismatch"}
    home.add_artifact("demo")
    runtime_of(client).refresh()
    assert (names(client), refused(client)) == (["colors"], {})


def test_an_index_without_its_model_encodes_once_the_model_is_there(home: Home, serve: Serve) -> None:
    shutil.move(home.path / "artifacts" / "demo", home.path / "away")
    client = serve()
    assert ask(client, "colors")["code"] == "model_not_found"
    shutil.move(home.path / "away", home.path / "artifacts" / "demo")
    runtime_of(client).refresh()
    assert ask(client, "colors")["hits"][0]["distance"] == 0


def test_a_retrained_model_changes_nothing_for_an_index_until_its_rebuild(home: Home, serve: Serve) -> None:
    client = serve()
    retrain(home, "demo")
    runtime_of(client).refresh()
    assert ask(client, "colors")["hits"][0]["distance"] == 0
    home.add_generation("colors", "demo")
    runtime_of(client).refresh()
    answer = ask(client, "colors")
    assert (answer["index"]["generation"], answer["hits"][0]["distance"]) == (2, 0)
    assert answer["model"]["fingerprint"] == FakeHasher(BITS, seed="retrained").fingerprint


def test_a_model_that_no_index_uses_is_encoded_with_as_it_is_on_disk(home: Home, serve: Serve) -> None:
    home.add_artifact("lone")
    client = serve()
    body = {"query": "a", "model": "lone"}
    before = client.post("/v1/encode/text", json=body).json()["fingerprint"]
    runtime_of(client).refresh()
    assert home.loads.count(("lone", BITS)) == 1
    retrain(home, "lone")
    runtime_of(client).refresh()
    gc.collect()
    after = client.post("/v1/encode/text", json=body).json()["fingerprint"]
    assert (before, after) == (
        FakeHasher(BITS, seed="lone").fingerprint,
        FakeHasher(BITS, seed="retrained").fingerprint,
    )
    assert ("lone", BITS) in runtime_of(client).models.loaded()


def test_no_query_waits_until_another_model_is_loaded(several: Home, serve: Serve) -> None:
    is_loading, gate = Event(), Event()

    def load_late(bits: int) -> FakeHasher:
        is_loading.set()
        assert gate.wait(10)
        return FakeHasher(bits, seed="late")

    client = serve()
    several.add_artifact("late", load_late)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(runtime_of(client).models.get, "late", BITS)
        assert is_loading.wait(10)
        body = {"query": "a", "model": "demo"}
        assert client.post("/v1/encode/text", json=body).status_code == 200
        gate.set()
        assert late.result().fingerprint == FakeHasher(BITS, seed="late").fingerprint


def test_no_query_fails_or_mixes_a_pair_while_indexes_come_change_and_go(several: Home, serve: Serve) -> None:
    client = serve(limits={"queue": 1000})
    several.add_generation("shapes", "demo", bits=64, activate=False)
    made_by, stopping = {("colors", 1): "demo", ("shapes", 1): "other", ("shapes", 2): "demo"}, Event()

    def keep_asking(index: str) -> list[dict[str, Any]]:
        answers = []
        while not stopping.is_set():
            answers.append(ask(client, index))
        return answers

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(keep_asking, index) for index in ("colors", "shapes", "colors", "shapes")]
        for turn in range(12):
            IndexDirectory(folder(several, "shapes")).activate(2 - turn % 2)
            several.add_generation("guest", "other")
            runtime_of(client).refresh()
            assert ask(client, "guest")["hits"][0]["distance"] == 0
            shutil.rmtree(folder(several, "guest"))
            os.utime(several.path / "artifacts" / "demo" / "manifest.json", ns=(turn, turn))
            runtime_of(client).refresh()
            assert ask(client, "guest")["code"] == "index_not_found"
        stopping.set()
        answers = [answer for call in running for answer in call.result()]
    assert len(answers) > 24
    for answer in answers:
        assert answer["hits"][0]["distance"] == 0  # of another model's code it would not be
        assert made_by[answer["index"]["name"], answer["index"]["generation"]] == answer["model"]["name"]
