"""The sizing table of docs/scale.md, and which of its cells say that they are derived."""

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INDEX = {"batch_per_s": 2000.0, "single_per_s": 1000.0, "bytes_per_code": 10.0, "distinct": 5, "sort_s": 1.0}
MEASURED = {
    "disk_bytes_per_item": {"codes": 16.0, "metadata": 84.0, "thumbnails": 900.0},
    "encoder_per_s": {"device": "cpu", "image": 50.0, "text": 200.0},
    "index": {"1000000": INDEX, "10000000": INDEX | {"single_per_s": 400.0}},
}
Table = Callable[[Mapping[str, Any]], str]


@pytest.fixture(scope="module")
def table() -> Table:
    made: Table = runpy.run_path(str(ROOT / "benchmarks" / "scale_model.py"))["table"]
    return made


def cells(text: str, heading: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {heading}"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_a_rate_is_measured_at_its_size_and_taken_in_proportion_from_the_largest_beyond(table: Table) -> None:
    assert cells(table(MEASURED), "nearest 100, one at a time") == ["1,000 m", "400 m", "40 d", "4.0 d"]


def test_sizes_on_disk_and_times_of_encoding_are_derived(table: Table) -> None:
    told = table(MEASURED)
    assert cells(told, "on disk with 256") == ["1.0 GB d", "10.0 GB d", "100.0 GB d", "1.0 TB d"]
    assert cells(told, "on disk without") == ["100.0 MB d", "1.0 GB d", "10.0 GB d", "100.0 GB d"]
    assert cells(told, "encoding all") == ["0.3 d", "2.9 d", "28.9 d", "289.4 d"]  # 25 ms an item


def test_the_docs_show_the_table_of_the_committed_figures(table: Table) -> None:
    measured = json.loads((ROOT / "docs" / "results" / "scale.json").read_text(encoding="utf-8"))
    assert table(measured) in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
