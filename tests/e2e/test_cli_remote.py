"""The command line with ``--url``: what a service answers is told as what this machine's files would."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn
from command_line import Run, command_line
from fake_artifact import write_fake_artifact
from tiny_home import FUSING, load_fake, make_home, png

from app.keys import digest_of
from app.main import create_app
from app.serving import bind
from app.settings import Settings

KEY = "an owner's key"
WAIT_S = 30


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line over a home with an index of pairs."""
    home = make_home(tmp_path / "home", 10)
    write_fake_artifact(home / "artifacts" / FUSING)
    run = command_line(home, monkeypatch, capsys)
    assert run("index", "build", "demo", "--artifact", FUSING, "--data", "tiny").code == 0
    return run


@pytest.fixture
def url(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service over the same home, which takes one key; the command line has it."""
    monkeypatch.setenv("CROSSBIT_API_KEY", KEY)
    settings = Settings(home=tmp_path / "home", log_level="error", keys={"admin": [digest_of(KEY)]})
    with closing(bind("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings, load_hasher=load_fake), log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT_S)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png(7))
    return path


def test_a_search_is_told_as_without_a_service(run: Run, url: str, picture: Path) -> None:
    asked: list[list[object]] = [
        ["--text", "title 7", "--target", "text", "--limit", 3],
        ["--text", "title 7", "--filter", '{"labels": "odd"}', "--explain"],
        ["--image", picture, "--radius", 40],
        ["--image", picture, "--text", "title 3"],
    ]
    for one in asked:
        local, remote = run("search", *one, "--json"), run("search", *one, "--url", url, "--json")
        assert (local.code, remote.code) == (0, 0), remote.err
        found = remote.json
        if "--radius" not in one:
            assert found["total"] is None  # the service counts no more than it was asked for
            found["total"] = local.json["total"]
        assert all(hit.pop("image_url").startswith("/v1/indexes/demo/items/") for hit in found["hits"])
        assert found == local.json
        assert run("search", *one, "--url", url).out == run("search", *one).out


def test_codes_are_those_of_this_machine(run: Run, url: str, picture: Path) -> None:
    for one in (["--text", "a", "--text", "b"], ["--image", picture], ["--pair", "--image", picture, "--text", "a"]):
        local = run("encode", "--artifact", FUSING, *one, "--json")
        remote = run("encode", *one, "--batch-size", 1, "--url", url, "--json")
        assert remote.json == local.json


def test_another_model_of_the_service_encodes(run: Run, url: str) -> None:
    asked = ["encode", "--artifact", "second", "--bits", "32", "--text", "a", "--json"]
    assert run(*asked, "--url", url).json == run(*asked).json


def test_indexes_of_the_service_are_shown(run: Run, url: str) -> None:
    assert run("index", "show", "--url", url, "--json").json["indexes"][0]["name"] == "demo"
    shown = run("index", "show", "demo", "--url", url, "--json").json
    assert (shown["items"], shown["generation"]) == (8, 1)


def test_a_rebuild_is_watched_to_its_end_and_rolled_back(run: Run, url: str) -> None:
    rebuilt = run("index", "rebuild", "demo", "--artifact", "second", "--bits", 32, "--url", url, "--json")
    assert (rebuilt.code, rebuilt.json["state"], rebuilt.json["done"]) == (0, "done", 8)
    assert run("index", "show", "demo", "--url", url, "--json").json["bits"] == 32
    assert run("index", "rollback", "demo", "--url", url, "--json").json["generation"] == 1


def test_a_problem_is_one_line(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run("search", "--text", "a", "--index", "nowhere", "--url", url)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {url} answered index_not_found: ")
    monkeypatch.delenv("CROSSBIT_API_KEY")
    assert "set CROSSBIT_API_KEY" in run("index", "show", "--url", url).err
    assert "is it running there?" in run("search", "--text", "a", "--url", "http://127.0.0.1:9").err


def test_a_rebuild_that_fails_ends_the_command_with_its_reason(run: Run, url: str) -> None:
    ended = run("index", "rebuild", "demo", "--source", "nowhere", "--url", url)
    assert (ended.code, "no source named 'nowhere'" in ended.err) == (1, True)


def test_a_service_takes_no_keywords(run: Run, url: str) -> None:
    assert run("search", "--keywords", "odd", "--url", url).code == 2
    assert run("search", "--url", url).code == 2
