"""Data sets, models and their licences on the command line."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command_line import Run
from huggingface_hub import constants

from model.manifest import Manifest


def test_data_sets_are_listed_and_checked(home: Path, run: Run) -> None:
    listed = {entry["name"]: entry for entry in run("data", "list", "--json").json["data"]}
    assert (listed["tiny"]["items"], listed["tiny"]["database"]) == (50, 40)
    checked = run("data", "check", "tiny")
    assert checked.code == 1
    assert "expected split hash" in checked.out


def test_models_are_listed_with_their_lengths(home: Path, run: Run) -> None:
    manifest = Manifest("first", "baseline", {}, "tiny-backbone", 1, 1, {"64": "b", "16": "a"}, {}, {}, {})
    for name in ("first", "second"):
        path = home / "artifacts" / name / "manifest.json"
        path.write_text(json.dumps(asdict(replace(manifest, name=name))), encoding="utf-8")
    listed = run("models", "--json").json["models"]
    assert [(entry["name"], entry["bits"]) for entry in listed] == [("first", "16, 64"), ("second", "16, 64")]


def test_licences_are_listed_of_artifacts_and_of_backbones(home: Path, run: Run) -> None:
    manifest = Manifest("first", "itq", {}, "b", 1, 1, {"64": "b"}, {"one": "MIT", "two": "MIT"}, {}, {})
    (home / "artifacts" / "first" / "manifest.json").write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    shutil.rmtree(home / "artifacts" / "second")
    listed = run("models", "--json").json
    assert [entry["licences"] for entry in listed["models"]] == ["MIT"]
    licences = {entry["backbone"]: entry["licence"] for entry in listed["backbones"]}
    assert licences["effnet-lite0+minilm"] == "Apache-2.0"
    assert licences["clip:ViT-B-16-quickgelu:metaclip_fullcc"] == "CC-BY-NC-4.0 (no commercial use)"
    assert "CC-BY-NC-4.0 (no commercial use)" in run("models").out


METACLIP = "backbone=clip:ViT-B-16-quickgelu:metaclip_fullcc"


def test_weights_without_commercial_use_want_their_licence_accepted(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused = run("train", "itq", "--data", "tiny", "--set", METACLIP)
    assert refused.code == 2
    assert "under CC-BY-NC-4.0, which forbids commercial use" in refused.err
    assert "--accept-licence" in refused.err
    accepted = run("train", "itq", "--data", "tiny", "--set", METACLIP, "--accept-licence")
    assert "train with --weights PATH" in accepted.err  # the next thing that is missing
    monkeypatch.setenv("CROSSBIT_ACCEPT_LICENCES", '["CC-BY-NC-4.0"]')
    assert "train with --weights PATH" in run("train", "itq", "--data", "tiny", "--set", METACLIP).err


def test_a_file_of_weights_is_named_on_the_command_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"damaged")
    backbone = "backbone=clip:crossbit-tiny"
    ended = run("train", "itq", "--data", "tiny", "--set", backbone, "--weights", path)
    assert (
        f"state dict of crossbit-tiny, as .safetensors or as a .pt or .bin of tensors alone, found {path}" in ended.err
    )
    ended = run("train", "itq", "--data", "tiny", "--weights", path)
    assert "expected a backbone clip:ARCH:TAG" in ended.err
