"""Settings from the environment; the cost of importing the service; what its log says."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from api_home import BITS, Home, open_recorded_jobs, wait_until
from fastapi.testclient import TestClient
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from app.main import create_app
from app.models import WARM_UP_TEXT, Models
from app.problems import Problem
from app.settings import Keys, Limits, Settings
from model.fake import FakeHasher
from model.hasher import EncodedBatch
from model.manifest import list_artifacts

CPU_S = "import time; {}; print(time.process_time())"
BAR_S = 0.3
ATTEMPTS = 5  # another process on the machine slows any one of them


def test_the_environment_sets_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_HOME", "/data/crossbit")
    monkeypatch.setenv("CROSSBIT_LIMITS__BODY_BYTES", "2048")
    monkeypatch.setenv("CROSSBIT_SOURCES", '{"shop": "openclipart"}')
    settings = Settings()
    assert settings.indexes_dir == Path("/data/crossbit/indexes")
    assert settings.limits == Limits(body_bytes=2048)
    assert settings.rebuild_sources() == {"shop": "openclipart"}


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_JOBS_URL_FILE", "")
    assert Settings().jobs_url_file is None


def test_the_demo_takes_the_model_of_the_package(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).artifacts_dir == tmp_path / "artifacts"
    assert list_artifacts(Settings(home=tmp_path, demo=True).artifacts_dir) == ["demo"]


def test_without_sources_every_data_set_is_one(tmp_path: Path) -> None:
    archive = tmp_path / "data" / "mine" / "archive.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"")
    assert Settings(home=tmp_path).rebuild_sources()["mine"] == "mine"


@pytest.mark.parametrize("values", [{"limits": {"hits": 0}}, {"limits": {"hit": 5}}, {"device": "tpu"}, {"hom": "x"}])
def test_wrong_settings_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 80


@pytest.mark.parametrize("kind", [Limits, Keys, Settings])
def test_every_setting_says_what_it_is(kind: type[BaseSettings]) -> None:
    body = ast.parse(inspect.getsource(kind)).body[0].body
    named = [
        statement.target.id
        for statement, following in pairwise(body)
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr)
    ]
    assert named == list(kind.model_fields)


def cpu_seconds(statement: str) -> float:
    run = [sys.executable, "-c", CPU_S.format(statement)]
    return float(subprocess.run(run, capture_output=True, check=True, text=True).stdout)


def test_importing_the_service_is_cheap() -> None:
    costs = []
    for _ in range(ATTEMPTS):
        costs.append(cpu_seconds("import app.main") - cpu_seconds("import fastapi, pydantic_settings"))
        if costs[-1] <= BAR_S:
            return
    pytest.fail(f"importing app.main costs {min(costs):.2f} CPU-seconds beyond its frameworks, the bar is {BAR_S}")


@pytest.mark.parametrize("made", ["app.main", "app.main; app.main.create_app()"])
def test_neither_importing_nor_making_the_service_loads_the_heavy_ones(made: str) -> None:
    code = f"import sys, {made}; print([name for name in ('torch', 'dbos', 'faiss', 'PIL') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"


def test_the_log_tells_events_and_never_the_query(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(FakeHasher):
        def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
            if list(texts) == [WARM_UP_TEXT]:
                return super().encode_texts(texts)
            private = texts  # a traceback with local variables would show it
            raise ValueError(f"cannot encode {private}")

    settings = Settings(home=home.path, log_format="json")
    application = create_app(settings, load_hasher=lambda *_: Failing(BITS, seed="demo"), open_jobs=open_recorded_jobs)
    with TestClient(application) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        client.post("/v1/search/text", json={"query": "my secret"}, headers={"x-request-id": "r-1"})
    log = capsys.readouterr().err
    events = {event["event"]: event for event in map(json.loads, log.splitlines())}
    assert {"model_loaded", "index_swapped", "service_ready", "request_failed", "request_finished"} <= set(events)
    assert events["request_failed"]["request_id"] == "r-1"
    assert {"load_s", "warm_up_s"} <= set(events["model_loaded"])
    assert events["model_loaded"]["licences"] == {"weights": "MIT"}
    assert "secret" not in log


def test_a_model_without_commercial_use_is_refused_until_its_licence_is_accepted(
    home: Home,
) -> None:
    path = home.path / "artifacts" / "demo" / "manifest.json"
    path.write_text(path.read_text().replace('"backbone": "none"', '"backbone": "clip:ViT-B-16:metaclip_400m"'))
    with pytest.raises(Problem) as refused:
        Models(Settings(home=home.path), home.load).get("demo", BITS)
    assert "under CC-BY-NC-4.0, which forbids commercial use" in str(refused.value.__cause__)
    accepting = Models(Settings(home=home.path, accept_licences=("CC-BY-NC-4.0",)), home.load)
    assert accepting.get("demo", BITS).bits == BITS
