"""Generated requests against the service's own OpenAPI document: what it answers is what the document says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_home import Home, open_recorded_jobs, wait_until
from fake_artifact import write_fake_artifact
from fastapi import FastAPI
from live_service import listening
from prometheus_client.parser import text_string_to_metric_families
from tiny_home import DATA, FUSING, load_fake, make_home

from app import job_events, rebuild
from app.keys import digest_of
from app.main import create_app
from app.settings import Settings
from model.fake import FusingFakeHasher

KEY = "the-owners-key"
CONFIG = """
seed = 7

[checks.positive_data_acceptance]
# a document cannot say everything: a name that no index has, a blank text, codes of another length
expected-statuses = ["2xx", 304, 400, 404, 405, 409, 410, 413, 415, 422]

[phases.stateful]
enabled = false

[generation]
max-examples = 20

[parameters]
"path.name" = "colors"
"path.item_id" = "red/00"

[[operations]]
# in a form, a list of one number is that number
include-path-regex = "/(image|pair)$"
checks.negative_data_rejection.enabled = false

[[operations]]
# the others need their item
include-method = "DELETE"
parameters = { "path.name" = "colors", "path.item_id" = "green/01" }
"""
# chains of requests over the links of the document, from what was made to what shows and ends it
LINKED = """
hooks = "appended"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 404, 405, 409, 410, 413, 415, 422, 429]

[checks.ignored_auth]
enabled = false

[phases]
enabled = false

[phases.stateful]
enabled = true
max-steps = 8
link-calibration = false
inference.algorithms = []

[generation]
max-examples = 40
mode = "positive"
deterministic = true
codec = "ascii"

[parameters]
"path.name" = "tiny"

[[operations]]
exclude-path-regex = "/(items|search/item|rebuild|jobs)"
enabled = false
"""
# made-up items and options are refused, mostly; chains need an item that is taken, by an id that is awkward in a path
APPENDED = """
import schemathesis

IDS = ("a", "notes/1", "100% \u00fc?#&+", "..b")


@schemathesis.hook
def before_call(context, case, kwargs):
    if (case.method, case.path) == ("POST", "/v1/indexes/{name}/items"):
        case.media_type = "application/json"
        case.body = {"items": [{"id": IDS[len(str(case.body)) % len(IDS)], "text": "a red square"}]}
    if (case.method, case.path) == ("POST", "/v1/search/item"):
        case.body = {name: case.body[name] for name in ("index", "item_id") if name in case.body} | {"column": "text"}
"""


@pytest.fixture
def url(home: Home) -> Iterator[str]:
    home.add_artifact("demo", FusingFakeHasher)  # so that every column is there
    home.add_generation("colors", "demo")
    settings = Settings(home=home.path, log_level="error", keys={"admin": [digest_of(KEY)]})
    app = create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)
    with listening(app) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FastAPI, str]]:
    """A service whose rebuilds are real, and its address."""
    monkeypatch.setattr(rebuild, "POLL_S", 0.02)
    monkeypatch.setattr(job_events, "POLL_S", 0.02)
    settings = Settings(home=make_home(tmp_path / "home", 10), log_level="error", keys={"admin": [digest_of(KEY)]})
    write_fake_artifact(settings.artifacts_dir / FUSING)
    app = create_app(settings, load_hasher=load_fake)
    with listening(app) as (host, port):
        job = app.state.jobs.start("tiny", source=DATA, model=FUSING)
        wait_until(lambda: app.state.jobs.get(job.id).state.final, seconds=30)
        yield app, f"http://{host}:{port}"


def run_schemathesis(url: str, config: str, folder: Path) -> str:
    """What it says of a service that answers as its document says."""
    file = folder / "schemathesis.toml"
    file.write_text(config)
    run = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run", f"{url}/openapi.json"]
    run += ["--header", f"Authorization: Bearer {KEY}", "--no-color"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_answers_are_what_the_document_says(url: str, tmp_path: Path) -> None:
    said = run_schemathesis(url, CONFIG, tmp_path)
    assert "Operations:       24 selected" in said, said
    assert "Missing test data" not in said, said


@pytest.mark.slow
def test_what_is_made_is_there_until_it_is_ended(working: tuple[FastAPI, str], tmp_path: Path) -> None:
    app, url = working
    (tmp_path / "appended.py").write_text(APPENDED)
    run_schemathesis(url, LINKED, tmp_path)
    # good answers that no made-up id gets: links led there
    assert followed(app) >= {
        ("GET", "/v1/jobs/{job_id}"),
        ("GET", "/v1/jobs/{job_id}/events"),
        ("POST", "/v1/jobs/{job_id}/cancel"),
        ("GET", "/v1/indexes/{name}/items/{item_id:path}"),
        ("DELETE", "/v1/indexes/{name}/items/{item_id:path}"),
        ("POST", "/v1/search/item"),
    }


def followed(app: FastAPI) -> set[tuple[str, str]]:
    """Method and route of what was answered well."""
    text = app.state.runtime.metrics.render().decode()
    counted = [family for family in text_string_to_metric_families(text) if family.name == "http_requests"]
    samples = [sample.labels for family in counted for sample in family.samples if sample.labels["status"] == "200"]
    return {(labels["method"], labels["route"]) for labels in samples}
