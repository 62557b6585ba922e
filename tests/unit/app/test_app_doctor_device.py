"""`crossbit doctor --device`: a device against the CPU, here with a stub for CUDA and a head that is frozen."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import fake_cuda

import app.cli
from app.doctor import Level
from app.doctor_device import as_findings, measure_device
from app.settings import Settings
from encoders.encode import PATHS, EncodePath
from model import speed
from model.items import ItemArchive
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    """A home with one artifact."""
    home = tmp_path_factory.mktemp("device")
    few = ItemArchive.open(archive.path)
    few.items = archive.select(("train",))[:4]
    folders = Folders(home / "runs", home / "artifacts", home / "cache")
    train_artifact(load_recipe("itq", ["config.bits=[16, 24]"]), few, "small", folders, device="cpu")
    return home


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.doctor_device.SIZES", (1, 2))
    monkeypatch.setattr(speed, "SIZES", (1, 2))
    monkeypatch.setattr(speed, "INPUTS", 2)


def test_the_cpu_agrees_with_itself(home: Path) -> None:
    measured = measure_device(Settings(home=home), "cpu", None, items=3)
    assert (measured["artifact"], measured["bits"], measured["items"]) == ("small", 24, 3)
    assert measured["flips_against_cpu"]["image"] == {"bits": 72, "below": 0, "above": 0, "per_million": 0}
    assert [one["size"] for one in measured["forwards"]["text"]] == [1, 2]
    assert measured["forwards"]["image"][0]["same_bits"] is True
    assert {one.level for one in as_findings(measured)} == {Level.OK}


def test_cuda_is_measured_by_the_same_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATHS, "cuda", EncodePath(chunk=3, length_step=16, text_stand_ins=(1,)))
    with fake_cuda(monkeypatch) as transfers:
        measured = measure_device(Settings(home=home), "cuda", "small", items=2)
    assert measured["device"]["kind"] == "cuda"
    assert (measured["device"]["name"], measured["device"]["peak_memory_bytes"]) == ("fake", 2**20)
    assert any(shape == (3, 3, 224, 224) for shape, _ in transfers.sent)
    assert any(shape[0] == 3 and shape[1] % 16 == 0 for shape, _ in transfers.sent if len(shape) == 2)
    assert measured["flips_against_cpu"]["text"]["above"] == 0


def test_bits_that_differ_beyond_rounding_are_a_failure() -> None:
    flips = {"bits": 1000, "below": 1, "above": 2, "per_million": 3000.0}
    sizes = [{"size": 1, "ms": 1.0, "per_s": 10.0, "same_bits": True}]
    report = {"device": {"kind": "cuda"}, "flips_against_cpu": {"image": flips}, "forwards": {"image": sizes}}
    codes, forwards = as_findings(report)
    assert (codes.level, forwards.level) == (Level.FAIL, Level.OK)
    assert codes.found.startswith("3000 bits in a million differ from the CPU's, 2 of them above 0.001")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["crossbit", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        app.cli.main()
    return int(exit_info.value.code or 0)


def test_the_measurements_are_written_to_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CROSSBIT_HOME", str(home))
    monkeypatch.setattr(measure_device, "__defaults__", (2,))
    report = tmp_path / "report.json"
    assert run(monkeypatch, "doctor", "--device", "cpu", "--report", str(report), "--json") == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["measured"] == json.loads(report.read_text(encoding="utf-8"))
    assert [one["check"] for one in shown["findings"]][-1] == "cpu text speed"


@pytest.mark.parametrize("arguments", [("--device", "cuda"), ("--report", "x.json")])
def test_what_cannot_be_measured_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CROSSBIT_HOME", str(home))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(monkeypatch, "doctor", *arguments) != 0
    captured = capsys.readouterr()
    assert "expected a CUDA device" in captured.out or "expected --device beside" in captured.err
