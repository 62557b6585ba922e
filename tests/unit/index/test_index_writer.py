import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import GenerationExists, InvalidItem, InvalidQuery
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.writer import GenerationSpec, IndexedItem, write_generation

Make = Callable[..., Any]


def test_rows_follow_the_code_points_of_the_ids(tmp_path: Path, make_item: Make, make_spec: Make) -> None:
    ids = ["b", "B", "\U0001f600", "\uffee", "\u00e4", "a", "10", "9"]
    write_generation(tmp_path / "demo", make_spec(), [make_item(item_id, 1) for item_id in ids])
    with Snapshot.open(tmp_path / "demo", 1) as snapshot:
        assert [item.id for item in snapshot.items(range(len(ids)))] == sorted(ids)


def test_the_order_of_arrival_changes_no_file(
    tmp_path: Path, items: list[IndexedItem], make_spec: Callable[..., GenerationSpec]
) -> None:
    one = write_generation(tmp_path / "demo", make_spec(), items)
    other = write_generation(tmp_path / "demo", make_spec(), items[::-1])
    assert {n: f for n, f in one.files.items() if n != "items.sqlite"} == {
        n: f for n, f in other.files.items() if n != "items.sqlite"
    }
    assert one.columns == other.columns


def test_the_manifest_tells_sizes_and_checksums(index_dir: Path, snapshot: Snapshot) -> None:
    files = snapshot.manifest.files
    assert sorted(files) == ["image.codes", "image.rows", "items.sqlite", "text.codes", "text.rows"]
    for name, entry in files.items():
        content = (index_dir / "generation-000001" / name).read_bytes()
        assert (entry.size_bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_manifest_counts_columns(snapshot: Snapshot) -> None:
    image, text = snapshot.manifest.columns["image"], snapshot.manifest.columns["text"]
    assert (image.count, image.items, image.max_per_item, image.distinct, image.largest_bucket) == (4, 4, 1, 3, 2)
    assert (text.count, text.items, text.max_per_item, text.distinct, text.largest_bucket) == (3, 2, 2, 3, 1)
    assert text.ones == (2, 1, 1, *[0] * 13)


def test_the_manifest_types_metadata_fields(tmp_path: Path, make_item: Make, make_spec: Make) -> None:
    fields = {"none": None, "nested": {"a": 1}, "empty": [], "list": [None, "a"], "both": [1, True], "plain": 2.5}
    manifest = write_generation(tmp_path / "demo", make_spec(), [make_item("a", metadata=fields)])
    assert manifest.fields == {
        "none": "object",
        "nested": "object",
        "empty": "object",
        "list": "string",
        "both": "mixed",
        "plain": "number",
    }


def test_codes_and_rows_are_plain_arrays(index_dir: Path) -> None:
    generation = index_dir / "generation-000001"
    assert np.fromfile(generation / "text.rows", dtype="<i8").tolist() == [3, 3, 4]
    assert np.fromfile(generation / "text.codes", dtype="<u2").tolist() == [0b111, 0b1, 0b0]


def test_nothing_but_the_named_files_stays(index_dir: Path, snapshot: Snapshot) -> None:
    found = sorted(path.name for path in (index_dir / "generation-000001").iterdir())
    assert found == sorted([*snapshot.manifest.files, "manifest.json"])
    assert sorted(path.name for path in index_dir.iterdir()) == ["CURRENT", "generation-000001"]


def test_writing_does_not_activate(tmp_path: Path, items: list[IndexedItem], make_spec: Make) -> None:
    write_generation(tmp_path / "demo", make_spec(), items)
    assert IndexDirectory(tmp_path / "demo").current() is None


def test_no_items_make_an_index_with_the_columns_asked_for(tmp_path: Path, make_spec: Make) -> None:
    write_generation(tmp_path / "demo", make_spec(columns=("image", "text")), [])
    with Snapshot.open(tmp_path / "demo", 1) as snapshot:
        query = np.zeros((1, 2), dtype=np.uint8)
        (answer,) = snapshot.search("image", query, k=5, radius=None, limit=5, fingerprint=None)
        assert (answer.hits, answer.total, answer.more) == ([], 0, False)
        assert snapshot.columns == ("image", "text")


def test_a_reserved_number_is_used_and_its_leftovers_are_dropped(
    tmp_path: Path, items: list[IndexedItem], make_spec: Make
) -> None:
    directory = IndexDirectory(tmp_path / "demo")
    number = directory.reserve()
    (directory.path / "generation-000001.tmp" / "image.codes").write_text("half")
    assert write_generation(directory.path, make_spec(number=number), items).generation == number
    assert directory.generations() == [number]


def test_a_number_is_not_written_twice(index_dir: Path, items: list[IndexedItem], make_spec: Make) -> None:
    with pytest.raises(GenerationExists, match="generation 1 already"):
        write_generation(index_dir, make_spec(number=1), items)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "a"}, "every item id once, found 'a' again"),
        ({"id": ""}, "id that is not empty"),
        ({"id": "\ud800"}, "Unicode text"),
        ({"text": "\ud800"}, "Unicode text"),
        ({"metadata": {"x": "\ud800"}}, "Unicode text"),
        ({"metadata": {"x": math.nan}}, "JSON values as metadata of item 'z'"),
        ({"metadata": {"x": object()}}, "JSON values"),
        ({"codes": {"image": np.zeros((1, 3), dtype=np.uint8)}}, r"image codes of 16 bits .* found uint8 \(1, 3\)"),
        ({"codes": {"image": np.zeros(2, dtype=np.uint8)}}, r"found uint8 \(2,\)"),
        ({"codes": {"image": np.zeros((1, 2), dtype=np.int64)}}, "found int64"),
        ({"codes": {"sound": np.zeros((1, 2), dtype=np.uint8)}}, "modalities among image, pair, text, found 'sound'"),
    ],
)
def test_a_bad_item_stops_the_writing_and_leaves_nothing(
    tmp_path: Path, make_item: Make, make_spec: Make, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidItem, match=message):
        write_generation(tmp_path / "demo", make_spec(), [make_item("a", 1), make_item("z", **changes)])
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.parametrize("changes", [{"index": "other"}, {"columns": ("sound",)}])
def test_a_spec_that_contradicts_itself_is_refused(tmp_path: Path, make_spec: Make, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidItem):
        write_generation(tmp_path / "demo", make_spec(**changes), [])


def test_a_code_length_that_codes_cannot_have_is_refused(tmp_path: Path, make_spec: Make) -> None:
    with pytest.raises(InvalidQuery, match="multiple of 8"):
        write_generation(tmp_path / "demo", make_spec(bits=12), [])


def test_an_error_of_the_source_leaves_nothing(tmp_path: Path, make_item: Make, make_spec: Make) -> None:
    def source() -> Any:  # noqa: ANN401 - a generator that fails
        yield make_item("a", 1)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        write_generation(tmp_path / "demo", make_spec(), source())
    assert list((tmp_path / "demo").iterdir()) == []


def test_an_item_with_an_empty_code_list_has_no_code(tmp_path: Path, make_item: Make, make_spec: Make) -> None:
    item = make_item("a", 1, codes={"text": np.empty((0, 2), dtype=np.uint8)})
    assert write_generation(tmp_path / "demo", make_spec(), [item]).columns == {}
