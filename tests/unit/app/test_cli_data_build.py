import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_files import mirflickr_labels, write_image, write_layout

import app.cli
from model.data import mirflickr25k
from model.data.splits import PublishedRule

ROWS = 40


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Passed-on files of 40 items without their images, and a published split that suits so few."""
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path / "home"))
    small = replace(mirflickr25k.BENCHMARK, split=PublishedRule(query=4, train=20, validation=3))
    monkeypatch.setattr(mirflickr25k, "DATA_SET", small.data_set())
    paths = [f"im{number}.jpg" for number in range(1, ROWS + 1)]
    write_layout(tmp_path / "flickr25k", paths, ["a photo"] * ROWS, mirflickr_labels(ROWS))
    for number, path in enumerate(paths):
        write_image(tmp_path / "photos" / path, number)
    return tmp_path / "flickr25k"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["crossbit", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        app.cli.main()
    return int(exit_info.value.code or 0)


def test_a_benchmark_is_built_with_images_from_elsewhere(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("data", "build", "mirflickr25k", "--from", layout)
    assert run(monkeypatch, *build, "--images", layout.parent / "photos") == 0
    told = capsys.readouterr().err
    assert "warning: expected 24,581 or 20,015 items, found 40" in told
    assert "MIRFLICKR-25K, 40 items, 24 labels (no published selection)" in told
    assert run(monkeypatch, "data", "check", "mirflickr25k") == 0


def test_missing_images_end_with_the_row_and_the_way_out(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "data", "build", "mirflickr25k", "--from", layout) != 0
    told = capsys.readouterr().err
    assert "index, row 1: expected an image 'im1.jpg'" in told
    assert "--images" in told
