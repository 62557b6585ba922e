"""Pairs of generation and model: swapped whole, kept by queries in flight, closed with the last of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from api_home import BITS, GatedHasher, Home, Serve, is_closed, runtime_of, wait_until
from fastapi.testclient import TestClient

from index.errors import ModelMismatch
from index.generations import IndexDirectory
from model.fake import FakeHasher

TEXT = "/v1/search/text"
BODY = {"query": "a red square", "target": "text", "limit": 1}


def test_a_query_in_flight_keeps_its_pair_over_a_change_of_model(home: Home, serve: Serve) -> None:
    gated = GatedHasher(BITS)
    home.add_artifact("demo", lambda _: gated)
    home.add_artifact("next")
    client = serve()
    old = runtime_of(client).index("colors").snapshot
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, TEXT, json=BODY)
        assert gated.entered.acquire(timeout=10)
        home.add_generation("colors", "next", bits=128)
        runtime_of(client).reload("colors")
        assert not is_closed(old)
        gated.gate.set()
        before = running.result().json()
    after = client.post(TEXT, json=BODY).json()
    assert (before["index"]["generation"], before["model"]["name"], before["hits"][0]["distance"]) == (1, "demo", 0)
    assert (after["index"]["generation"], after["model"]["name"], after["hits"][0]["distance"]) == (2, "next", 0)
    wait_until(lambda: is_closed(old))  # a thread that has answered lets go a moment later


def test_queries_during_swaps_are_never_answered_by_a_mixed_pair(home: Home, client: TestClient) -> None:
    home.add_artifact("next")
    home.add_generation("colors", "next", activate=False)
    directory = IndexDirectory(home.path / "indexes" / "colors")
    models = {1: "demo", 2: "next"}
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(client.post, TEXT, json=BODY) for _ in range(60)]
        for swap in range(10):
            directory.activate(1 + (swap + 1) % 2)
            runtime_of(client).reload("colors")
        answers = [call.result().json() for call in running]
    for answer in answers:
        assert answer["hits"][0]["distance"] == 0  # of another model's code it would not be
        assert answer["model"]["name"] == models[answer["index"]["generation"]]


def test_a_swap_to_a_generation_of_an_unknown_model_serves_codes_only(home: Home, client: TestClient) -> None:
    home.add_artifact("gone")
    home.add_generation("colors", "gone")
    (home.path / "artifacts" / "gone" / "manifest.json").unlink()
    runtime_of(client).reload("colors")
    assert client.post(TEXT, json=BODY).json()["code"] == "model_not_found"


def test_a_swap_that_fails_leaves_the_old_pair_serving(home: Home, client: TestClient) -> None:
    home.add_artifact("next")
    home.add_generation("colors", "next")
    home.add_artifact("next", lambda bits: FakeHasher(bits, seed="retrained"))
    with pytest.raises(ModelMismatch):
        runtime_of(client).reload("colors")
    assert client.post(TEXT, json=BODY).json()["index"]["generation"] == 1


def test_a_retrained_model_is_loaded_anew(home: Home, client: TestClient) -> None:
    home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
    home.add_generation("colors", "demo")
    runtime_of(client).reload("colors")
    answer = client.post(TEXT, json=BODY).json()
    assert answer["hits"][0]["distance"] == 0
    assert answer["model"]["fingerprint"] == FakeHasher(BITS, seed="retrained").fingerprint


def test_rollback_restores_the_pair(home: Home, client: TestClient) -> None:
    home.add_artifact("next")
    home.add_generation("colors", "next", bits=128)
    runtime_of(client).reload("colors")
    fingerprint = FakeHasher(BITS, seed="demo").fingerprint
    pointer = client.post("/v1/indexes/colors/rollback").json()
    assert pointer == {"index": "colors", "generation": 1, "model": {"name": "demo", "fingerprint": fingerprint}}
    assert client.post(TEXT, json=BODY).json()["hits"][0]["distance"] == 0
    current = IndexDirectory(home.path / "indexes" / "colors").current()
    assert current is not None
    assert (current.generation, current.artifact) == (1, "demo")


def test_rollback_goes_forward_again_by_number(home: Home, client: TestClient) -> None:
    home.add_generation("colors", "demo")
    runtime_of(client).reload("colors")
    client.post("/v1/indexes/colors/rollback")
    assert client.post("/v1/indexes/colors/rollback", json={"generation": 2}).json()["generation"] == 2
    assert client.get("/v1/indexes/colors").json()["generations"] == [1, 2]


def test_a_rollback_to_a_model_that_changed_is_refused_and_changes_nothing(home: Home, serve: Serve) -> None:
    home.add_artifact("next")
    home.add_generation("colors", "next")
    home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
    client = serve()
    assert client.post("/v1/indexes/colors/rollback").json()["code"] == "model_index_mismatch"
    assert client.post(TEXT, json=BODY).json()["index"]["generation"] == 2


def test_closing_the_service_closes_its_snapshots(home: Home, serve: Serve) -> None:
    client = serve()
    snapshot = runtime_of(client).index("colors").snapshot
    client.__exit__(None, None, None)
    wait_until(lambda: is_closed(snapshot))
