"""``crossbit import`` and ``crossbit data check`` as people type them."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_home import make_archive, png

import app.cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crossbit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            app.cli.main()
        return int(exit_info.value.code or 0), *capsys.readouterr()

    return run


def test_shards_are_imported_and_checked(tmp_path: Path, run: Run) -> None:
    with tarfile.open(tmp_path / "s-0.tar", "w") as tar:
        for number in range(3):
            for name, data in ((f"{number}.png", png(number)), (f"{number}.txt", b"a word")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    code, out, err = run("import", tmp_path / "s-{0..9}.tar", "--name", "web", "--json")
    assert (code, json.loads(out)["items"]) == (0, 3)
    assert "importing: 3 of 3" in err
    code, out, _ = run("data", "check", "web", "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["lengths"]["text"]["pieces"]) == (0, True, 6)


def test_linked_pictures_that_are_gone_end_the_check_with_1(tmp_path: Path, run: Run) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.png").write_bytes(png(number))
    assert run("import", photos, "--name", "mine", "--link")[0] == 0
    (photos / "1.png").unlink()
    code, out, err = run("data", "check", "mine", "--html", tmp_path / "page.html")
    assert code == 1
    assert "error (1)\tmissing or undecodable images\titem 1.png: cannot read the image of item 1.png" in out
    assert "wrote" in err
    assert "missing or undecodable images: 1" in (tmp_path / "page.html").read_text()


def test_an_archive_of_an_earlier_version_is_still_read(tmp_path: Path, run: Run) -> None:
    make_archive(tmp_path / "home" / "data" / "tiny" / "archive.zip", 10)
    code, out, _ = run("data", "list", "--json")
    assert code == 0
    assert {entry["name"]: entry["items"] for entry in json.loads(out)["data"]}["tiny"] == 10
