"""`crossbit bench encode` on a frozen head and a few shipped inputs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from torch import Tensor

import app.cli
from app.bench.encode import as_table
from encoders.forward import Rows, forward_chunk
from encoders.registry import load_backbone
from model import speed
from model.items import ItemArchive
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["crossbit", "bench", "encode", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        app.cli.main()
    return int(exit_info.value.code or 0)


@pytest.fixture
def home(tmp_path: Path, archive: ItemArchive, monkeypatch: pytest.MonkeyPatch) -> Path:
    few = ItemArchive.open(archive.path)
    few.items = archive.select(("train",))[:4]
    folders = Folders(tmp_path / "runs", tmp_path / "artifacts", tmp_path / "cache")
    train_artifact(load_recipe("itq", ["config.bits=[16]"]), few, "small", folders, device="cpu")
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path))
    monkeypatch.setattr(speed, "SIZES", (1, 2))
    monkeypatch.setattr(speed, "INPUTS", 2)
    return tmp_path


def test_everything_is_measured_and_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--bits", "16", "--items", "3", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["artifact"], measured["items"], measured["threads"]) == ("small", 3, 2)
    assert [one["size"] for one in measured["forwards"]["text"]] == [1, 2]
    assert measured["forwards"]["text"][0]["same_bits"]  # of two together that is up to the processor
    assert 0 <= measured["bulk"]["image"]["fast_flips_per_million"] < 500_000
    assert measured["bulk"]["text"]["canonical_per_s"] > 0
    headings, rows = as_table(measured)
    assert {len(row) for row in rows} == {len(headings)}


@pytest.mark.parametrize("differs", [False, True])
def test_a_size_has_the_same_bits_where_all_its_rows_have_them(monkeypatch: pytest.MonkeyPatch, differs: bool) -> None:
    def forward(read: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int, device: torch.device) -> Rows:
        rows = np.concatenate([forward_chunk(read, one, 1, device) for one in inputs.split(1)])
        rows[-1, -1] += differs and chunk > 1
        return rows

    for name, value in (("forward_chunk", forward), ("SIZES", (1, 2)), ("INPUTS", 2)):
        monkeypatch.setattr(speed, name, value)
    found = speed.sweep_texts(load_backbone(tiny_clip.BACKBONE, "cpu"), ["a dog", "a tree"], lambda sizes: None)
    assert [(one.size, one.same_bits) for one in found] == [(1, True), (2, not differs)]


def test_a_precision_that_there_is_not_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--dtype", "int4") == 2
    assert "expected one of bfloat16, float16" in " ".join(capsys.readouterr().err.split())
