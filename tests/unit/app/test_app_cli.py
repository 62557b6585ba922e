"""The command line as a whole: what it loads, and how it tells of mistakes, trouble and Ctrl-C."""

import errno
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import Run
from safetensors import SafetensorError

import app.cli
from app.cli import options
from app.jobs_lock import take_worker_id
from model.errors import UnsupportedImage
from model.fake import FakeHasher
from model.hasher import EncodedBatch
from model.training.recipe import shipped_recipes


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = "torch fastapi dbos numpy PIL pydantic rich uvicorn faiss sqlite3"
    code = f"import sys, app.cli; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command_and_the_first_steps(run: Run) -> None:
    out = " ".join(run("--help").out.split())
    commands = "import train evaluate models data encode search index serve key doctor bench"
    assert all(f"│ {command} " in out for command in commands.split())
    assert "First steps: crossbit train baseline --name demo;" in out


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").out == f"crossbit {version('crossbit')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--text", "x"], "no index yet; build one with `crossbit index build`"),
        (["index", "show", "x"], "no index yet"),
        (["encode", "--text", "x"], "expected artifact to be one of first, second; found the name of one"),
        (["encode", "--artifact", "x", "--text", "x"], "expected artifact to be one of first, second; found 'x'"),
        (["encode", "--artifact", "first"], "expected either --text or --image"),
        (["encode", "--artifact", "first", "--text", " "], "found an empty one"),
        (["encode", "--artifact", "first", "--image", "missing"], "cannot read missing"),
        (["encode", "--artifact", "first", "--image", __file__], "expected a whole image"),
        (["index", "build", "x", "--artifact", "x", "--data", "tiny"], "found 'x'"),
        (["index", "build", "x", "--artifact", "first", "--data", "x"], "no data set named 'x'; known: "),
        (["index", "build", "X!", "--artifact", "first", "--data", "tiny"], "expected an index name"),
        (["data", "check", "x"], "no data set named 'x'"),
        (["data", "build", "x"], "found 'x'"),
        (["import", "missing", "--name", "x"], "found nothing at missing"),
        (["import", __file__, "--name", "x"], "found another file"),
        (
            ["train", "baseline", "--data", "tiny"],
            "baseline needs at least 200 items with an image and a text, found 50",
        ),
        (
            ["train", "magic"],
            f"expected a .toml file or one of {', '.join(shipped_recipes())}, found 'magic'",
        ),
        (["evaluate", "x"], "no artifact named 'x'; known: first, second"),
        (["serve", "--host", "0.0.0.0"], "expected a loopback address"),  # noqa: S104 - refused
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], message: str, run: Run) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert message in ended.said
    assert "Traceback" not in ended.err


@pytest.fixture
def own_signal() -> Iterator[None]:
    """Gives SIGINT back to pytest afterwards."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def raising(error: BaseException) -> Callable[..., FakeHasher]:
    """Loads a hasher that fails at the first text."""

    class Failing(FakeHasher):
        def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
            raise error

    return lambda *arguments, **keywords: Failing()


def left_behind(home: Path) -> list[str]:
    """Everything in the home that a command wrote, but the lock of the jobs."""
    return sorted(path.name for place in ("indexes", "jobs") for path in (home / place).glob("*/*"))


@pytest.mark.usefixtures("own_signal")
def test_ctrl_c_ends_a_build_with_one_line_and_leaves_nothing(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "load_hasher", raising(KeyboardInterrupt()))
    ended = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert ended.code == 130
    assert ended.err.strip() == "interrupted; nothing half-written was left behind"
    assert left_behind(home) == []


@pytest.mark.usefixtures("own_signal")
def test_ctrl_c_ends_an_import_with_one_line_and_leaves_nothing(
    home: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.data.importing.make_picture", interrupted)
    ended = run("import", photos, "--name", "mine")
    assert (ended.code, ended.err.strip()) == (130, "interrupted; nothing half-written was left behind")
    assert [path.name for path in (home / "data").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/big/file"), "no space left on the disk at /big/file;"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left on the disk;"),
        (sqlite3.OperationalError("database or disk is full"), "no space left on the disk;"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "no space left on the disk;"),
        (PermissionError(errno.EACCES, "Permission denied", "/its"), "may not read or write at /its (EACCES);"),
    ],
)
def test_trouble_with_the_disk_is_said_in_one_line(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(options, "load_hasher", raising(error))
    ended = run("index", "build", "demo", "--artifact", "first", "--data", "tiny")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {message}")
    assert left_behind(home) == []


def test_the_doctor_exits_with_1_where_something_is_broken(home: Path, run: Run) -> None:
    for manifest in home.glob("artifacts/*/manifest.json"):
        manifest.write_text("{}", encoding="utf-8")
    examined = run("doctor", "--json")
    broken = [one["check"] for one in examined.json["findings"] if one["level"] == "FAIL"]
    assert (examined.code, examined.json["ok"]) == (1, False)
    assert broken == ["artifact first", "artifact second"]
    shutil.rmtree(home / "artifacts")
    assert run("doctor").code == 0


def test_settings_that_make_no_sense_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_PORT", "many")
    ended = run("models")
    assert ended.code == 2
    assert "CROSSBIT_PORT: Input should be a valid integer" in ended.said
    monkeypatch.delenv("CROSSBIT_PORT")
    monkeypatch.setenv("CROSSBIT_SOURCES", "secret")
    ended = run("models")
    assert ended.code == 2
    assert 'field "sources" from source "EnvSettingsSource": expected JSON' in ended.said
    assert "secret" not in ended.err


def test_an_error_without_a_message_of_ours_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.cli, "cli", broken)
    with pytest.raises(ZeroDivisionError):
        app.cli.main()


def test_every_error_tree_is_known(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise UnsupportedImage("not a picture")

    monkeypatch.setattr(app.cli, "cli", broken)
    with pytest.raises(SystemExit) as exit_info:
        app.cli.main()
    assert (exit_info.value.code, capsys.readouterr().err) == (2, "error: not a picture\n")


def test_a_check_of_workers_fails_where_nobody_works(run: Run) -> None:
    ended = run("worker", "--check")
    assert (ended.code, ended.err) == (1, "workers: none\n")


def test_a_check_of_workers_names_those_that_work(run: Run, home: Path) -> None:
    _, lock = take_worker_id(home / "jobs", "night-shift")
    with closing(lock):
        ended = run("worker", "--check")
    assert (ended.code, ended.err) == (0, "workers: night-shift\n")
