"""``/metrics``: names and labels as the contract lists them, and that each moves."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_home import BITS, GatedHasher, Home, Serve, png, wait_until
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics
from model.fake import FakeHasher

TEXT = "/v1/search/text"
CONTRACT = {
    "http_requests_total": {"method", "route", "status"},
    "http_request_duration_seconds": {"route"},
    "stage_duration_seconds": {"stage"},
    "encode_queue_depth": {"modality"},
    "encode_batch_size": {"modality"},
    "search_tie_group_size": set(),
    "index_items": {"index", "column"},
    "index_generation": {"index"},
    "index_age_seconds": {"index"},
    "rebuild_items_total": {"outcome"},
    "rebuild_shards_total": set(),
    "worker_beat_age_seconds": {"worker"},
    "rebuild_duration_seconds": set(),
    "rebuilds_failed_total": set(),
    "index_model_loaded": {"index"},
    "index_refused": {"index", "code"},
    "home_free_bytes": set(),
    "rejected_total": {"code"},
    "code_near_zero_bits_total": set(),
    "model_info": {"name", "fingerprint", "bits"},
}


def told(client: TestClient) -> str:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text


def value(text: str, metric: str, /, **labels: str) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (metric, labels, found)
    return found[0]


def labels_by_metric(text: str) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name)
            found[name] = found.get(name, set()) | set(sample.labels) - {"le"}
    return found


def test_the_metrics_are_those_of_the_contract(home: Home, serve: Serve) -> None:
    home.add_generation("broken", "demo")
    (home.path / "indexes" / "broken" / "generation-000001" / "image.codes").write_bytes(b"")
    client = serve()
    client.post(TEXT, json={"query": "a", "index": "colors"})
    client.post(TEXT, json={"query": "", "index": "colors"})
    client.app.state.runtime.metrics.record_rebuilt(encoded=1, reused=0, skipped=0)
    client.app.state.runtime.metrics.watch_worker("host-1", lambda: 1.0)
    found = labels_by_metric(told(client))
    assert {name: labels for name, labels in found.items() if not name.startswith("process_")} == CONTRACT
    assert found["process_resident_memory_bytes"] == set()


def test_requests_are_counted_under_their_route(client: TestClient) -> None:
    client.post(TEXT, json={"query": "a"})
    client.get("/v1/indexes/colors/items/red%2F00")
    client.get("/v1/indexes/colors/items/blue%2F02")
    client.get("/secret-path")
    client.get("/ui/secret-file")
    client.request("BREW", TEXT)
    text = told(client)
    assert value(text, "http_requests_total", method="POST", route=TEXT, status="200") == 1
    item = "/v1/indexes/{name}/items/{item_id:path}"
    assert value(text, "http_requests_total", method="GET", route=item, status="200") == 2
    assert value(text, "http_request_duration_seconds_count", route=item) == 2
    assert value(text, "http_requests_total", route="", status="404") == 2
    assert value(text, "http_requests_total", method="other", route=TEXT, status="405") == 1
    assert "secret" not in text
    assert "BREW" not in text


def test_problems_are_counted_by_code(client: TestClient) -> None:
    client.post(TEXT, json={"query": ""})
    client.post(TEXT, json={"query": 7})
    client.get("/nowhere")
    text = told(client)
    for code in ("empty_input", "invalid_request", "route_not_found"):
        assert value(text, "rejected_total", code=code) == 1


def test_a_query_is_timed_by_stage(client: TestClient) -> None:
    client.post("/v1/search/image", files={"file": png()})
    text = told(client)
    for stage, calls in (("queue", 3), ("decode", 1), ("encode", 1), ("search", 1)):
        assert value(text, "stage_duration_seconds_count", stage=stage) == calls


def test_inputs_of_a_call_are_a_batch(client: TestClient) -> None:
    client.post("/v1/encode/text", json={"queries": ["a", "b", "c"]})
    text = told(client)
    assert value(text, "encode_batch_size_sum", modality="text") == 3
    assert value(text, "encode_batch_size_count", modality="text") == 1


def test_waiting_calls_are_the_depth_of_the_queue(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(client.post, TEXT, json={"query": "a"})]
        hasher.entered.acquire(timeout=10)
        calls += [pool.submit(client.post, TEXT, json={"query": "a"}) for _ in range(2)]
        wait_until(lambda: value(told(client), "encode_queue_depth", modality="text") == 2)
        assert value(told(client), "encode_queue_depth", modality="image") == 0
        hasher.gate.set()
        assert [call.result().status_code for call in calls] == [200] * 3
    assert value(told(client), "encode_queue_depth", modality="text") == 0


def test_a_caller_that_gives_up_leaves_the_queue(serve: Serve) -> None:
    hasher = GatedHasher(BITS)
    client = serve(load=lambda *_: hasher, limits={"deadline_s": 0.05})
    for _ in range(3):
        client.post(TEXT, json={"query": "a"})
    assert value(told(client), "encode_queue_depth", modality="text") == 0
    hasher.gate.set()


def test_tie_groups_on_a_page_are_counted_once(client: TestClient) -> None:
    answer = client.post("/v1/search/item", json={"item_id": "red/00", "limit": 2}).json()
    assert [hit["tie"]["size"] for hit in answer["hits"]] == [2, 2]
    text = told(client)
    assert value(text, "search_tie_group_size_count") == 1
    assert value(text, "search_tie_group_size_sum") == 2


def test_indexes_and_models_are_told_as_they_are_now(home: Home, client: TestClient) -> None:
    text = told(client)
    assert value(text, "index_items", index="colors", column="image") == 11
    assert value(text, "index_items", index="colors", column="text") == 12
    assert value(text, "index_generation", index="colors") == 1
    assert 0 <= value(text, "index_age_seconds", index="colors") < 60
    fingerprint = FakeHasher(BITS, seed="demo").fingerprint
    assert value(text, "model_info", name="demo", bits=str(BITS), fingerprint=fingerprint) == 1
    home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
    home.add_generation("colors", "demo")
    client.app.state.runtime.reload("colors")
    text = told(client)
    assert value(text, "index_generation", index="colors") == 2
    assert fingerprint not in text


def test_an_index_that_is_refused_is_told_with_its_problem(home: Home, serve: Serve) -> None:
    home.add_artifact("demo", lambda bits: FakeHasher(bits, seed="retrained"))
    text = told(serve())
    assert value(text, "index_refused", index="colors", code="model_index_mismatch") == 1
    assert "index_generation{" not in text


def test_an_index_without_its_model_is_told(home: Home, serve: Serve) -> None:
    assert value(told(serve()), "index_model_loaded", index="colors") == 1
    (home.path / "artifacts" / "demo" / "manifest.json").unlink()
    assert value(told(serve()), "index_model_loaded", index="colors") == 0


def test_free_space_is_that_of_the_home(client: TestClient) -> None:
    assert value(told(client), "home_free_bytes") > 0


def test_rebuilt_items_are_counted_by_outcome() -> None:
    metrics = Metrics()
    metrics.record_rebuilt(encoded=5, reused=3, skipped=1)
    metrics.record_rebuild(2.5)
    text = metrics.render().decode()
    for outcome, items in (("encoded", 5), ("reused", 3), ("skipped", 1)):
        assert value(text, "rebuild_items_total", outcome=outcome) == items
    assert value(text, "rebuild_duration_seconds_sum") == 2.5


def test_a_request_without_an_answer_is_counted() -> None:
    metrics = Metrics()
    metrics.record_request(method="GET", route="/livez", status=None, problem=None, seconds=0.1)
    assert value(metrics.render().decode(), "http_requests_total", status="none") == 1


def test_two_services_in_one_process_do_not_mix(serve: Serve) -> None:
    first, second = serve(), serve()
    first.post(TEXT, json={"query": "a"})
    assert value(told(first), "http_requests_total", route=TEXT, status="200") == 1
    assert "/v1/search/text" not in told(second)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/v1/indexes", "/", "/openapi.json"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_where_only_post_is_answered(client: TestClient) -> None:
    answer = client.head(TEXT)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")
    assert client.post("/v1/indexes").headers["allow"] == "GET, HEAD"
    assert value(told(client), "http_requests_total", method="HEAD", route=TEXT, status="405") == 1
