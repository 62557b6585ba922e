"""OpenTelemetry: off unless set; one span a request, with its id and stages and nothing that a user wrote."""

import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from api_home import Serve, png, wait_until
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError
from tiny_home import DATA, load_fake, make_home

from app.failures import ExtraMissing
from app.job_spans import JobSpans
from app.keys import digest_of
from app.main import create_app
from app.settings import Settings
from app.tracing import open_tracing

KEY = "crossbit_private-key"
HEADERS = {"Authorization": f"Bearer {KEY}"}
ENDPOINT = "http://collector.test:4318/"
TRACE = "0af7651916cd43dd8448eb211c80319c"
Traced = Callable[[Callable[[TestClient], object]], list[ReadableSpan]]


@pytest.fixture
def traced(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Traced:
    """Runs requests against a service with tracing on, until its end; gives the spans that it sent."""
    exporter, endpoints = InMemorySpanExporter(), []

    def make(endpoint: str) -> InMemorySpanExporter:
        endpoints.append(endpoint)
        return exporter

    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", make)

    def run(requests: Callable[[TestClient], object]) -> list[ReadableSpan]:
        client = serve(otlp_endpoint=ENDPOINT, keys={"admin": [digest_of(KEY)]})
        requests(client)
        client.__exit__(None, None, None)
        assert endpoints == ["http://collector.test:4318/v1/traces"]
        return list(exporter.get_finished_spans())

    return run


def test_a_query_is_one_span_with_its_id_and_stages(traced: Traced) -> None:
    sent = HEADERS | {"X-Request-Id": "r-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    (span,) = traced(lambda client: client.post("/v1/search/text", json={"query": "a red square"}, headers=sent))
    attributes = dict(span.attributes or {})
    assert span.name == "POST /v1/search/text"
    assert span.context.trace_id == int(TRACE, 16)
    assert span.resource.attributes["service.name"] == "crossbit"
    assert attributes["crossbit.request_id"] == "r-1"
    assert attributes["http.route"] == "/v1/search/text"
    assert attributes["http.response.status_code"] == 200
    stages = [attributes[f"crossbit.{stage}_ms"] for stage in ("queue", "decode", "encode", "search", "total")]
    assert all(isinstance(ms, float) and ms >= 0 for ms in stages)


def test_a_problem_is_told_by_its_code(traced: Traced) -> None:
    def requests(client: TestClient) -> None:
        client.post("/v1/search/text", json={"query": ""}, headers=HEADERS)
        client.post("/v1/search/text", json={"query": 7}, headers=HEADERS)
        client.get("/v1/jobs")

    problems = [dict(span.attributes or {})["crossbit.problem"] for span in traced(requests)]
    assert problems == ["empty_input", "invalid_request", "unauthorized"]


def test_nothing_that_a_request_carries_is_in_a_span(traced: Traced) -> None:
    private = "private-sentence"

    def requests(client: TestClient) -> None:
        for body in ({"query": private}, {"query": private, private: private}, {"query": private, "index": private}):
            client.post("/v1/search/text", json=body, headers=HEADERS)
        client.post("/v1/search/image", files={"file": (private, png())}, headers=HEADERS)
        client.get(f"/v1/indexes/colors/items/{private}?v={private}", headers=HEADERS)
        client.get(f"/{private}?key={KEY}", headers=HEADERS)
        client.get("/v1/jobs", headers={"Authorization": f"Bearer {private}"})
        client.request(private.upper(), "/v1/search/text", headers=HEADERS)

    spans = traced(requests)
    assert len(spans) == 8
    written = "".join(span.to_json() for span in spans)
    assert "withheld" in written
    for secret in (private, private.upper(), KEY, digest_of(KEY)):
        assert secret not in written


def test_an_unforeseen_failure_is_told_by_its_type_alone(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("private message")

    def requests(client: TestClient) -> None:
        monkeypatch.setattr(client.app.state.runtime.models, "names", fail)  # type: ignore[attr-defined]
        assert client.get("/v1/models", headers=HEADERS).status_code == 500

    (span,) = traced(requests)
    assert dict(span.attributes or {})["crossbit.problem"] == "internal"
    assert "private" not in span.to_json()


def test_probes_are_not_traced(traced: Traced) -> None:
    assert traced(lambda client: [client.get(path, headers=HEADERS) for path in ("/livez", "/metrics")]) == []


def test_without_the_setting_nothing_is_traced_whatever_the_process_is_set_up_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    assert serve().post("/v1/search/text", json={"query": "a"}).status_code == 200
    assert exporter.get_finished_spans() == ()


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'crossbit\[otel\]'"):
        open_tracing(Settings(otlp_endpoint=ENDPOINT))


def test_a_rebuild_is_one_trace_of_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda _: exporter)
    monkeypatch.setattr("app.rebuild.POLL_S", 0.02)
    home = make_home(tmp_path, 10, bad=[3])
    settings = Settings(home=home, log_level="error", otlp_endpoint=ENDPOINT, max_bad_share=1.0)
    with TestClient(create_app(settings, load_hasher=load_fake)) as client:
        job = client.post("/v1/indexes/tiny/rebuild", json={"source": DATA, "model": "first"}).json()["id"]
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done", seconds=30)
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("rebuild ")]
    names = ["plan", "shard", "write", "verify", "replay", "swap", "prune"]
    assert [span.name for span in spans] == [f"rebuild {name}" for name in names]
    assert {span.context.trace_id for span in spans} == {UUID(job).int}
    plan, shard = (dict(span.attributes or {}) for span in spans[:2])
    assert plan == {
        "crossbit.job": job,
        "crossbit.index": "tiny",
        "crossbit.generation": 1,
        "crossbit.items": 8,
        "crossbit.shards": 1,
    }
    assert (shard["crossbit.items"], shard["crossbit.reused"], shard["crossbit.skipped"]) == (7, 0, 1)


def test_a_step_that_fails_is_told_by_its_type_alone() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.raises(RuntimeError), JobSpans(provider).step("plan", str(UUID(int=7)), "tiny"):
        raise RuntimeError("private message")
    (span,) = exporter.get_finished_spans()
    assert (span.status.is_ok, dict(span.attributes or {})["error.type"]) == (False, "RuntimeError")
    assert "private" not in span.to_json()


def test_without_traces_a_rebuild_imports_nothing_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    spans = JobSpans()
    with spans.step("plan", "no job", "tiny"):
        spans.tell(items=3)


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://", "http:///v1"])
def test_an_endpoint_is_an_http_url(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Settings(otlp_endpoint=endpoint)
