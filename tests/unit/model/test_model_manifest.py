import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from model.manifest import Manifest, list_artifacts, read_manifest

MANIFEST = Manifest("a", "itq", {"bits": [8, 128, 16]}, "towers", 2, 1, {"8": "x", "128": "y", "16": "z"}, {}, {}, {})


def test_it_is_read_without_loading_a_model() -> None:
    code = (
        "import sys, model.manifest; print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(asdict(MANIFEST)))
    assert read_manifest(tmp_path) == MANIFEST


def test_lengths_ascend_as_numbers() -> None:
    assert MANIFEST.lengths == (8, 16, 128)


def test_only_folders_with_a_manifest_are_artifacts(tmp_path: Path) -> None:
    for name in ("b", "a", "unfinished"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "manifest.json").touch()
    assert list_artifacts(tmp_path) == ["a", "b"]
    assert list_artifacts(tmp_path / "nothing") == []
