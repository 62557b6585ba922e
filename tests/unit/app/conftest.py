"""What the tests of the command line stand on: a small home, and commands over it."""

from pathlib import Path

import pytest
from command_line import Ended, Run, command_line
from tiny_home import make_home, png


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with data and artifacts, and no index."""
    return make_home(tmp_path / "home", 50)


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line over the home."""
    return command_line(home, monkeypatch, capsys)


@pytest.fixture
def built(run: Run) -> Ended:
    """The index ``demo``, built."""
    return run("index", "build", "demo", "--artifact", "first", "--data", "tiny", "--json")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures, one of them damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in (("red-apple.png", png(1)), ("pear.png", png(2)), ("bad.png", b"")):
        (folder / name).write_bytes(data)
    return folder
