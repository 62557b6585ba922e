import json
from pathlib import Path

import pytest

from index.errors import IndexCorrupt, IndexFormatUnsupported
from index.manifest import FORMAT, GenerationManifest, Pointer, _checksum

POINTER = Pointer(FORMAT, "artifact", "fingerprint", 12)


def write(path: Path, **changes: object) -> None:
    """A pointer file with other fields, whose checksum is right."""
    raw = {"format": FORMAT, "artifact": "a", "fingerprint": "f", "generation": 1} | changes
    path.write_text(json.dumps(raw | {"checksum": _checksum(raw)}))


def test_a_pointer_survives_its_file(tmp_path: Path) -> None:
    POINTER.save(tmp_path / "CURRENT")
    assert Pointer.load(tmp_path / "CURRENT") == POINTER


def test_keys_are_sorted_so_that_equal_pointers_are_equal_files(tmp_path: Path) -> None:
    POINTER.save(tmp_path / "CURRENT")
    keys = list(json.loads((tmp_path / "CURRENT").read_text()))
    assert keys == sorted(keys)


def test_a_manifest_survives_its_file(index_dir: Path, tmp_path: Path) -> None:
    manifest = GenerationManifest.load(index_dir / "generation-000001" / "manifest.json")
    manifest.save(tmp_path / "copy.json")
    assert GenerationManifest.load(tmp_path / "copy.json") == manifest


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "CURRENT", format=FORMAT + 1)
    with pytest.raises(IndexFormatUnsupported, match=f"CURRENT has format {FORMAT + 1}.*upgrade"):
        Pointer.load(tmp_path / "CURRENT")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "1"}', "\x00\xff"])
def test_what_is_no_pointer_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "CURRENT").write_text(content)
    with pytest.raises(IndexCorrupt, match="CURRENT"):
        Pointer.load(tmp_path / "CURRENT")


def test_a_missing_pointer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(IndexCorrupt, match=r"cannot read .*CURRENT"):
        Pointer.load(tmp_path / "CURRENT")


def test_an_altered_pointer_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "CURRENT"
    POINTER.save(path)
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(IndexCorrupt, match="CURRENT does not match its checksum"):
        Pointer.load(path)


def test_a_pointer_with_other_fields_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "CURRENT", extra=1)
    with pytest.raises(IndexCorrupt, match="not a pointer"):
        Pointer.load(tmp_path / "CURRENT")


def test_a_manifest_with_other_fields_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "manifest.json")
    with pytest.raises(IndexCorrupt, match=r"manifest\.json is not a generation manifest"):
        GenerationManifest.load(tmp_path / "manifest.json")
