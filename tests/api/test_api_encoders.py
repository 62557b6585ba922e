"""A service whose models are in a process of their own: the same answers, and others after that process ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_home import Home, open_recorded_jobs, wait_until
from fake_encoder import COMMAND
from fastapi.testclient import TestClient

import app.encoding
from app.encoding import Encoders
from app.main import create_app
from app.settings import Settings


class FakeEncoders(Encoders):
    """Of the fake models that do what a text says."""

    def __init__(self, processes: int, *, retries: int = 0, rest_s: float | None = None) -> None:
        super().__init__(processes, COMMAND, retries=retries, rest_s=rest_s)


@pytest.fixture
def artifact(home: Home) -> Path:
    """The folder of the model that made the index."""
    folder = home.path / "artifacts" / "demo"
    (folder / "seed").write_text("demo")
    return folder


@pytest.fixture
def remote(home: Home, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service on the home that loads no model itself."""
    monkeypatch.setattr(app.encoding, "Encoders", FakeEncoders)
    settings = Settings(home=home.path, log_level="error", refresh_s=0.05, decode_processes=0)
    with TestClient(create_app(settings, open_jobs=open_recorded_jobs), raise_server_exceptions=False) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def mined(artifact: Path) -> Path:
    """What ends the first process that loads the model."""
    mine = artifact / "mine"
    mine.touch()
    return mine


def hits(client: TestClient, text: str) -> object:
    response = client.post("/v1/search/text", json={"query": text, "limit": 5})
    return response.json()["hits" if response.status_code == 200 else "code"]


def test_answers_are_those_of_models_in_the_service(remote: TestClient, client: TestClient) -> None:
    assert remote.get("/v1/models").json() == client.get("/v1/models").json()
    assert hits(remote, "a red apple") == hits(client, "a red apple")


def test_a_process_that_ends_costs_the_call_that_ended_it_alone(remote: TestClient, client: TestClient) -> None:
    assert hits(remote, "abort") == "internal"
    assert hits(remote, "a red apple") == hits(client, "a red apple")


def test_an_index_whose_model_took_its_process_down_is_tried_again(
    mined: Path, remote: TestClient, client: TestClient
) -> None:
    wait_until(lambda: hits(remote, "a red apple") == hits(client, "a red apple"))
    assert not mined.exists()
