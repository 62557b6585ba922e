"""Generated requests against the service's own OpenAPI document: what it answers is what the document says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_home import Home, open_recorded_jobs
from live_service import listening

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


@pytest.fixture
def url(home: Home) -> Iterator[str]:
    home.add_artifact("demo", FusingFakeHasher)  # so that every column is there
    home.add_generation("colors", "demo")
    settings = Settings(home=home.path, log_level="error", keys={"admin": [digest_of(KEY)]})
    app = create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)
    with listening(app) as (host, port):
        yield f"http://{host}:{port}"


@pytest.mark.slow
def test_answers_are_what_the_document_says(url: str, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    run = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{url}/openapi.json"]
    run += ["--header", f"Authorization: Bearer {KEY}", "--no-color"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Operations:       24 selected" in done.stdout, done.stdout
    assert "Missing test data" not in done.stdout, done.stdout
