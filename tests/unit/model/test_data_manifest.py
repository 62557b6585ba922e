import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from model.data.importing import check_rows
from model.data.manifest import MAX_LINE_CHARS, read_manifest
from model.data.records import Record
from model.errors import ArchiveError

FULL = {
    "id": "1",
    "image": "a.jpg",
    "texts": ["a dog", "an animal"],
    "labels": ["dog", "animal", "dog"],
    "group": "g",
    "metadata": {"price": 1.5, "name": "01"},
}


def jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "d.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def table(folder: Path, *lines: str) -> Path:
    path = folder / "d.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def records(path: Path) -> Sequence[Record]:
    source = read_manifest(path)
    check_rows(source)
    return [row for row in source.rows() if isinstance(row, Record)]


def test_a_json_line_is_an_item(tmp_path: Path) -> None:
    assert records(jsonl(tmp_path, FULL)) == [
        Record(
            where="d.jsonl line 1",
            id="1",
            image="a.jpg",
            texts=("a dog", "an animal"),
            labels=("dog", "animal"),
            group="g",
            metadata={"price": 1.5, "name": "01"},
        )
    ]


def test_a_csv_row_says_the_same(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "\ufeffid,image,texts,labels,group,metadata.price,metadata.name",
        '1,a.jpg,"[""a dog"", ""an animal""]",dog; animal;dog,g,1.5,01',
    )
    found = records(path)
    assert found[0].where == "d.csv line 2"
    assert found == [
        Record(
            found[0].where,
            "1",
            "a.jpg",
            ("a dog", "an animal"),
            ("dog", "animal"),
            "g",
            found[0].metadata,
        )
    ]
    assert found[0].metadata == {"price": 1.5, "name": "01"}


def test_a_csv_cell_may_hold_lines_and_json(tmp_path: Path) -> None:
    path = table(tmp_path, "id,text,labels,metadata", '1,"two\nlines","[""a;b""]","{""x"": [1]}"', "2,y,,")
    first, second = records(path)
    assert (first.texts, first.labels, first.metadata) == (("two\nlines",), ("a;b",), {"x": [1]})
    assert (second.where, second.labels, second.metadata) == ("d.csv line 4", (), {})


def test_what_a_row_leaves_out_is_empty(tmp_path: Path) -> None:
    only_text, only_image = records(jsonl(tmp_path, {"id": 7, "text": "x"}, "", {"image": "p q.jpg", "text": None}))
    assert (only_text.id, only_text.image, only_text.texts) == ("7", None, ("x",))
    assert (only_image.where, only_image.texts) == ("d.jsonl line 3", ())
    assert only_image.id.startswith("p-q.jpg-")


def test_images_are_looked_for_beside_the_manifest_or_where_told(tmp_path: Path) -> None:
    path = jsonl(tmp_path, FULL)
    assert read_manifest(path).root == tmp_path
    assert read_manifest(path, tmp_path / "images").root == tmp_path / "images"


BAD_ROWS: list[tuple[Any, str]] = [
    ("{", "line 1 is not JSON"),
    ("[]", "line 1: expected a JSON object"),
    ("[" * 100_000, "line 1 is not JSON"),
    ('{"id": "1", "metadata": {"x": NaN}}', "NaN is not a JSON number"),
    ('{"id": "1", "text": "\\ud800"}', "half a surrogate pair"),
    ('{"id": "1", "metadata": {"x": "\\ud800"}}', "half a surrogate pair"),
    ({"id": "1", "lables": []}, "unknown 'lables'; known: id, image"),
    ({"id": 1.5}, "line 1, id: expected a text, found 1.5"),
    ({"id": True}, "id: expected a text, found True"),
    ({"id": "a/../b"}, "line 1: expected an id"),
    ({"text": "x"}, "expected an id, or an image"),
    ({"id": "1", "image": 3}, "image: expected a text"),
    ({"id": "1", "text": "x", "texts": ["y"]}, "expected text or texts, found both"),
    ({"id": "1", "texts": "x"}, "texts: expected a list of texts"),
    ({"id": "1", "labels": [1]}, "labels: expected a list of texts"),
    ({"id": "1", "metadata": []}, "metadata: expected an object"),
    ({"id": "1", "metadata": {"labels": 1}}, "labels is written by the index itself"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        records(jsonl(tmp_path, row))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id;image;text", "1;a;b"], "separated by commas, found 'id;image;text'"),
        (["id,brand", "1,x"], "found 'id', 'brand'; to keep a column of your own, call it metadata.NAME"),
        (["id,id", "1,2"], "different columns"),
        (["id,metadata.", "1,2"], "different columns"),
        (["id,text", "1"], "d.csv line 2: expected 2 cells as in the heading, found 1"),
        (["id,texts", "1,x"], "expected a JSON list such as"),
        (["id,labels", '1,"[1"'], "labels is not JSON"),
        (["id,text", '1,"x'], "line 2 is not CSV"),
        (["id,text"], "expected rows with the columns"),
        ([""], "expected rows with the columns"),
        (["id,text", "1,a", "1,b"], "d.csv line 3 and d.csv line 2 both have the id '1'"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        records(table(tmp_path, *lines))


def test_a_line_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="line 1: expected at most 1,048,576 characters a line"):
        records(jsonl(tmp_path, '{"id": "' + "x" * MAX_LINE_CHARS))


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_only_utf_8_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"id,text\n1,caf\xe9\n")
    with pytest.raises(ArchiveError, match="is not"):
        records(tmp_path / name)
