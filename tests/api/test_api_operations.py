"""The dashboard and the alert rules of `docs/operations` ask for metrics and labels that the service exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_home import Home, Serve, png
from prometheus_client.parser import text_string_to_metric_families

from app.problems import CODES

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations"
RULES = yaml.safe_load((OPERATIONS / "alerts.yml").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((OPERATIONS / "grafana-dashboard.json").read_text(encoding="utf-8"))
WORDS = {"by", "sum", "rate", "increase", "changes", "histogram_quantile"}
SCRAPED = {"job", "instance"}  # labels that Prometheus adds
UP = {"up": set[str]()}  # its own metric


def dashboard_queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])


QUERIES = [*(rule["expr"] for rule in ALERTS), *dashboard_queries()]


@pytest.fixture
def exported(home: Home, serve: Serve) -> dict[str, set[str]]:
    """Labels of every sample of a service in which everything has happened."""
    home.add_generation("broken", "demo")
    (home.path / "indexes" / "broken" / "generation-000001" / "image.codes").write_bytes(b"")
    client = serve(default_index="colors")
    client.post("/v1/search/image", files={"file": png()})
    client.post("/v1/search/text", json={"query": ""})
    client.app.state.runtime.metrics.record_rebuilt(encoded=1, reused=0, skipped=0)  # type: ignore[attr-defined]
    client.app.state.runtime.metrics.watch_worker("host-1", lambda: 1.0)  # type: ignore[attr-defined]
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a query with the labels that it is selected by."""
    bare = re.sub(r"by \([^)]*\)|\[[^\]]*\]", " ", query)
    for name, inside in re.findall(r"([a-z_]+[a-z0-9_]*)\s*(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', bare)):
        if name not in WORDS:
            yield name, set(re.findall(r"([a-z_]+)\s*(?:=~|=|!=|!~)", inside))


def test_queries_name_metrics_and_labels_that_are_exported(exported: dict[str, set[str]]) -> None:
    known = exported | UP
    assert len(QUERIES) > 30
    for query in QUERIES:
        found = list(selectors(query))
        assert found, query
        for name, labels in found:
            assert name in known, query
            assert labels <= known[name] | SCRAPED, query
        grouped = {label.strip() for inside in re.findall(r"by \(([^)]*)\)", query) for label in inside.split(",")}
        assert grouped <= SCRAPED.union(*(known[name] for name, _ in found)), query


def test_queries_name_problem_codes_that_exist() -> None:
    named = {code for query in QUERIES for codes in re.findall(r'code=~?"([^"]*)"', query) for code in codes.split("|")}
    assert "overloaded" in named
    assert named <= CODES.keys()


def test_annotations_name_labels_that_their_alert_has(exported: dict[str, set[str]]) -> None:
    for rule in ALERTS:
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= SCRAPED.union(*((exported | UP)[name] for name, _ in selectors(rule["expr"])))


def test_every_alert_has_a_severity_and_advice_in_the_document() -> None:
    advice = (OPERATIONS / "README.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in ALERTS] == re.findall(r"^\| `(Crossbit\w+)` \|", advice, re.MULTILINE)
    assert {rule["labels"]["severity"] for rule in ALERTS} <= {"critical", "warning", "info"}


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
