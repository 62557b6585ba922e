"""Parquet manifests: the rows of the other kinds, and files that nobody should trust."""

import datetime
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from model.data.importing import check_rows
from model.data.manifest import read_manifest
from model.data.records import Record
from model.errors import ArchiveError


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def records(path: Path) -> list[Record]:
    source = read_manifest(path)
    check_rows(source)
    return [row for row in source.rows() if isinstance(row, Record)]


def test_a_row_says_what_a_json_line_says(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "image": "a.jpg", "texts": ["a", "b"], "labels": ["x"], "group": "g", "metadata": {"price": 1.5}},
        {"id": 2, "image": None, "texts": ["c"], "labels": None, "group": None, "metadata": {"price": 2.0}},
    ]
    lines = tmp_path / "d.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    found = records(write(tmp_path / "d.parquet", rows))
    for one, other in zip(found, records(lines), strict=True):
        assert (one.id, one.image, one.texts, one.labels) == (other.id, other.image, other.texts, other.labels)
        assert (one.group, one.metadata) == (other.group, other.metadata)
    assert found[1].where == "d.parquet row 2"


def test_columns_of_metadata_are_fields(tmp_path: Path) -> None:
    found = records(write(tmp_path / "d.parquet", [{"id": "1", "text": "a", "metadata.price": 3}]))
    assert found[0].metadata == {"price": 3}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "brand": "x"}, "to keep a column of your own, call it metadata.NAME"),
        ({"id": "1", "texts": "a"}, "d.parquet row 1, texts: expected a list of texts"),
        ({"id": "1", "metadata.when": datetime.date(2020, 1, 1)}, "row 1, metadata: expected JSON values"),
        ({"id": "1", "metadata.rate": float("nan")}, "row 1, metadata: expected JSON values"),
        ({"id": "1", "text": "x" * (2**20 + 1)}, "row 1, text: expected at most 1,048,576 characters"),
        ({"id": b"1"}, "row 1, id: expected a text"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        records(write(tmp_path / "d.parquet", [row]))


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.99])
def test_half_a_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "d.parquet", [{"id": str(number), "text": "a"} for number in range(100)])
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(ArchiveError, match="expected a whole Parquet file"):
        records(path)


def test_damaged_bytes_never_end_the_process_otherwise(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": f"text {number}", "labels": ["a", "b"]} for number in range(50)]
    path = write(tmp_path / "d.parquet", rows)
    data = path.read_bytes()
    for start in range(4, len(data) - 4, len(data) // 40):
        damaged = bytearray(data)
        damaged[start : start + 4] = b"\xff\xff\xff\x7f"
        path.write_bytes(damaged)
        with suppress(ArchiveError):
            assert len(records(path)) <= 50


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.parquet", [{"id": "1", "text": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArchiveError, match=r"crossbit\[parquet\]"):
        read_manifest(path)
