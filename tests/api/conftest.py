"""Fixtures of a service on a small index."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from api_home import Home, Serve, open_recorded_jobs, wait_until
from fastapi.testclient import TestClient

from app.main import create_app
from app.models import LoadHasher
from app.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.add_artifact("demo")
    home.add_generation("colors", "demo")
    return home


@pytest.fixture
def serve(home: Home) -> Iterator[Serve]:
    """Starts a service on the home; keyword arguments are settings."""
    with ExitStack() as stack:

        def start(*, ready: bool = True, load: LoadHasher | None = None, **values: object) -> TestClient:
            # what the tests change on disk is served when they say so; a process is started where a test is about it
            defaults = {"refresh_s": 3600, "decode_processes": 0}
            settings = Settings(home=home.path, log_level="error", **(defaults | values))
            app = create_app(settings, load_hasher=load or home.load, open_jobs=open_recorded_jobs)
            client = stack.enter_context(TestClient(app))
            if ready:
                wait_until(lambda: client.get("/readyz").status_code == 200)
            return client

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()
