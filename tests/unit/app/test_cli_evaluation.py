"""`crossbit evaluate` and `crossbit evaluate-codes`, with ``FakeHasher`` in place of trained models."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_home import load_fake, make_home

import app.cli
from model.fake import FakeHasher

TIES = {"expected", "stable", "best", "worst"}


class Run:
    """Runs one command: its exit code and what it wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["crossbit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            app.cli.main()
        return int(exit_info.value.code or 0), *self._capsys.readouterr()

    def json(self, *arguments: object) -> Any:  # noqa: ANN401 - JSON
        code, out, _ = self(*arguments, "--json")
        assert code == 0
        return json.loads(out)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def load(
        artifact_dir: Path, lengths: Sequence[int], device: str, cache_dir: Path | None = None
    ) -> list[FakeHasher]:
        return [load_fake(artifact_dir, bits, device) for bits in lengths]

    monkeypatch.setenv("CROSSBIT_HOME", str(make_home(tmp_path / "home", 50, bad=(7,))))
    monkeypatch.setattr("model.artifact.load_hashers", load)
    return Run(monkeypatch, capsys)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Packed codes in which queries equal the items that they share their label with."""
    codes = np.array([[0], [255]], np.uint8)
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    path = tmp_path / "codes.npz"
    np.savez(
        path,
        query_codes=codes,
        retrieval_codes=np.repeat(codes, 3, axis=0),
        query_labels=labels,
        retrieval_labels=np.repeat(labels, 3, axis=0),
    )
    return path


def test_evaluation_as_json(run: Run) -> None:
    lone = run.json("evaluate", "first", "--no-report", "--data", "tiny", "--bits", 16, "--bits", 32)["lone"]
    assert set(lone) == {"image_to_image", "image_to_text", "text_to_image", "text_to_text"}
    assert set(lone["image_to_text"]) == {"16", "32"}
    figures = lone["image_to_text"]["16"]
    assert set(figures["map_all"]) == TIES
    assert (figures["queries"], figures["left_out"], figures["database"], figures["skipped"]) == (10, 0, 39, 1)
    assert (figures["captions"], list(figures["other_captions"])) == ("title", ["full"])
    assert len(figures["radius"]["precision"]) == 17


def test_evaluation_as_a_table_marks_what_is_not_the_headline(run: Run) -> None:
    code, out, err = run("evaluate", "first", "--no-report", "--data", "tiny", "--bits", 16)
    heading, *rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert heading[:4] == ["protocol", "captions", "bits", "direction"]
    assert [row[1] for row in rows] == ["title"] * 5 + ["full (not the headline)"] * 5
    assert "skipped item-0007: expected a whole image" in err


def test_several_lengths_are_of_one_reading_of_the_items_and_come_in_the_order_asked(run: Run) -> None:
    _, out, err = run("evaluate", "first", "--no-report", "--data", "tiny", "--bits", 32, "--bits", 16, "--bits", 32)
    _, *rows = [line.split("\t") for line in out.splitlines()]
    assert list(dict.fromkeys((row[2], row[1].split()[0]) for row in rows)) == [
        ("32", "title"),
        ("32", "full"),
        ("16", "title"),
        ("16", "full"),
    ]
    assert err.count("skipped item-0007") == 2  # once for each caption variant


def test_one_caption_variant_alone(run: Run) -> None:
    lone = run.json("evaluate", "first", "--no-report", "--data", "tiny", "--bits", 16, "--captions", "full")["lone"]
    assert lone["image_to_text"]["16"]["captions"] == "full"
    assert "other_captions" not in lone["image_to_text"]["16"]


def test_an_oracle_that_the_method_lacks_says_why_it_is_no_retrieval(run: Run, tmp_path: Path) -> None:
    manifest = {name: {} for name in ("config", "fingerprints", "licences", "data", "training")}
    facts = {"name": "first", "method": "baseline", "backbone": "b", "image_dim": 1, "text_dim": 1, "format": 1}
    path = tmp_path / "home" / "artifacts" / "first" / "manifest.json"
    path.write_text(json.dumps({**manifest, **facts}), encoding="utf-8")
    code, _, err = run("evaluate", "first", "--data", "tiny", "--oracle")
    assert code == 2
    assert "found 'baseline', which takes none; leave out --oracle." in err
    assert "it is not a retrieval result" in err


def test_codes_made_elsewhere_as_json(run: Run, archive: Path) -> None:
    shown = run.json("evaluate-codes", archive)
    assert (shown["bits"], shown["queries"], shown["database"], shown["chance"]) == (8, 2, 6, 0.5)
    assert (shown["protocol"], shown["direction"]) == ("elsewhere", "pair_to_pair")
    assert shown["map_all"] == dict.fromkeys(TIES, 1.0)
    assert shown["precision_at"] == {"1": 1.0, "5": 0.6}
    assert shown["radius_2"] == {"precision": 1.0, "precision_where_found": 1.0, "found_nothing": 0.0}


def test_codes_made_elsewhere_as_a_table(run: Run, archive: Path) -> None:
    code, out, err = run("evaluate-codes", archive, "--bitorder", "big")
    assert code == 0
    assert "elsewhere\t\t8\tpair_to_pair\t1.0000\t1.0000 to 1.0000" in out
    assert "nothing here says what their encoder saw" in err


def test_codes_that_follow_their_labels_sound_the_alarm(run: Run, tmp_path: Path) -> None:
    labels = np.eye(4, dtype=np.uint8)[np.arange(400) % 4]
    codes = np.repeat(np.array([[0, 0], [255, 0], [0, 255], [15, 240]], np.uint8)[None], 100, axis=0).reshape(400, 2)
    path = tmp_path / "leaked.npz"
    np.savez(path, query_codes=codes, retrieval_codes=codes, query_labels=labels, retrieval_labels=labels)
    code, _, err = run("evaluate-codes", path)
    assert code == 0
    assert "LEAK ALARM for pair codes of 16 bits: 400 unseen items agree" in err


def test_several_directions_made_elsewhere_stand_side_by_side(run: Run, archive: Path) -> None:
    names = ("query_image=query_codes", "query_text=query_codes", "database_text=retrieval_codes")
    labels = ("query_labels=query_labels", "database_labels=retrieval_labels")
    shown = run.json("evaluate-codes", archive, *(word for name in (*names, *labels) for word in ("--key", name)))
    assert set(shown["directions"]) == {"image_to_text", "text_to_text"}
    assert (shown["bits"], shown["queries"], shown["database"]) == (8, 2, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"junk"), "expected a MAT file of version 5 or 7.3, or .npz, found b'junk'"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_a_bad_file_ends_with_one_line(run: Run, archive: Path, change: Callable[[Path], object], message: str) -> None:
    change(archive)
    code, out, err = run("evaluate-codes", archive)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
