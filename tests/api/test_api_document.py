"""`docs/http-api.md`: every example is run against a served home, and its tables are compared with the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_home import BITS, png, wait_until
from fake_artifact import write_fake_artifact
from fastapi.testclient import TestClient
from live_service import listening
from test_api_metrics import CONTRACT
from tiny_home import FUSING, load_fake

from app.keys import digest_of
from app.main import create_app
from app.problems import CODES
from app.settings import Limits, Settings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
DRAWINGS = ROOT / "tests" / "fixtures" / "openclipart-200.zip"
KEYS = {"KEY": "a reader's key", "ADMIN_KEY": "an owner's key"}
# commands of one block, and the answer to the last of them where one is shown
EXAMPLES = re.findall(r"```sh\n(.*?)```(?:\n\n```json\n(.*?)```)?", DOCUMENT, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
OWN_KEYS = {"metadata", "fields"}  # objects whose keys are the data's
NULLABLE = {"rate", "eta_s"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's names over 200 drawings: an index of two generations, and one whose model fuses; without weights."""
    home = tmp_path_factory.mktemp("home")
    (home / "data" / "openclipart").mkdir(parents=True)
    (home / "data" / "openclipart" / "archive.zip").write_bytes(DRAWINGS.read_bytes())
    for artifact in ("demo", FUSING):
        write_fake_artifact(home / "artifacts" / artifact)
    with TestClient(create_app(Settings(home=home, log_level="error"), load_hasher=load_fake)) as client:
        for index, model in (("fused", FUSING), ("demo", "demo"), ("demo", "demo")):
            body = {"source": "openclipart", "model": model}
            job = client.post(f"/v1/indexes/{index}/rebuild", json=body).json()
            wait_until(lambda url=f"/v1/jobs/{job['id']}": client.get(url).json()["state"] == "done", seconds=30)
    return home


@pytest.fixture(scope="module")
def environment(home: Path) -> Iterator[dict[str, str]]:
    """What the examples stand on: a server with keys, and its address."""
    keys = {"query": [digest_of(KEYS["KEY"])], "admin": [digest_of(KEYS["ADMIN_KEY"])]}
    settings = Settings(home=home, log_level="error", keys=keys, default_index="demo")
    app = create_app(settings, load_hasher=load_fake)
    with listening(app) as (host, port):
        yield os.environ | KEYS | {"URL": f"http://{host}:{port}"}


def run(command: str, environment: dict[str, str], directory: Path) -> str:
    (directory / "picture.png").write_bytes(png())
    shell = shutil.which("bash") or "bash"
    return subprocess.run(
        [shell, "-euc", command], env=environment, cwd=directory, capture_output=True, text=True, check=True
    ).stdout


def shape(value: object, name: str = "") -> object:
    """Names and types of a JSON value; of a list, those of its first element."""
    if isinstance(value, dict):
        return "object" if name in OWN_KEYS else {key: shape(one, key) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return "number" if name in NULLABLE else type(value).__name__
    return "number"


@pytest.mark.parametrize(("commands", "shown"), EXAMPLES, ids=[commands[:60] for commands, _ in EXAMPLES])
def test_an_example_gives_what_is_shown(environment: dict[str, str], tmp_path: Path, commands: str, shown: str) -> None:
    lines = commands.replace("\\\n", " ").splitlines()
    answers = [run(line, environment, tmp_path) for line in lines]
    assert [
        answer for answer in answers if "urn:crossbit:problem" in answer and "urn:crossbit:problem" not in shown
    ] == []
    if shown:
        assert shape(json.loads(answers[-1])) == shape(json.loads(shown))


@pytest.mark.parametrize("program", PROGRAMS, ids=["called", "awaited"])
def test_a_program_runs(environment: dict[str, str], tmp_path: Path, program: str) -> None:
    (tmp_path / "picture.png").write_bytes(png())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(("forbidden", "done"))


def test_the_examples_were_found() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```sh") >= 15
    assert len(PROGRAMS) == DOCUMENT.count("```python") == 2


def rows(section: str) -> list[str]:
    """First cells of the table rows under a heading."""
    text = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [line.split("|")[1].strip() for line in text.splitlines() if re.match(r"\| *`", line)]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}


def test_every_problem_is_told_with_its_status() -> None:
    assert names(rows("Errors")) == set(CODES)
    for code, (status, _) in CODES.items():
        assert re.search(rf"\|[^|]*`{code}`[^|]*\| {status} \|", DOCUMENT), code


def test_every_limit_is_told_with_its_default() -> None:
    assert names(rows("Limits")) == set(Limits.model_fields)
    for name, value in Limits().model_dump().items():
        assert re.search(rf"\| `{name}`[^|]*\| {value:,.0f} \|", DOCUMENT), name


def test_every_metric_is_told_with_its_labels() -> None:
    assert names(rows("Metrics")) == set(CONTRACT)
    text = DOCUMENT.split("\n## Metrics\n")[1]
    for metric, labels in CONTRACT.items():
        (cells,) = re.findall(rf"\|[^|\n]*`{metric}`[^|\n]*\|([^|\n]*)\|", text)
        assert set(re.findall(r"`([a-z]+)`", cells)) == labels, metric


def test_every_route_is_told(home: Path) -> None:
    paths = create_app(Settings(home=home, log_level="error"), load_hasher=load_fake).openapi()["paths"]
    for path in paths:
        last = path.rsplit("/", 1)[-1].replace("item_id", "id").replace("job_id", "id")
        assert re.search(rf"[/`]{re.escape(last)}`", DOCUMENT), path


def test_the_code_of_the_examples_fits_the_demo() -> None:
    assert all(len(code) * 4 == BITS for code in re.findall(r'"codes": \["([0-9a-f]+)"', DOCUMENT))
