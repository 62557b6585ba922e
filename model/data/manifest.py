"""Manifests as sources: CSV or JSON Lines with one item a row. ``docs/train.md`` describes the columns."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from model.data.records import RESERVED, Record, Source, check_distinct, check_id, id_of_file
from model.errors import ArchiveError

SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("id", "image", "text", "texts", "labels", "group", "metadata")
PREFIX = "metadata."  # of a CSV column that is one metadata field
MAX_LINE_CHARS = 2**20


def read_manifest(path: Path, root: Path | None = None) -> Source:
    """Read every row; image names are relative to ``root``, the manifest's own folder unless given.

    Raises:
        ArchiveError: a row or column cannot be understood, or two rows have one id; the message names the line.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    try:
        records = [_record(raw, where) for where, raw in rows]
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path.name} is not UTF-8: {error}; save it as UTF-8") from error
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}") from error
    if not records:
        raise ArchiveError(f"{path.name}: expected rows with the columns {', '.join(COLUMNS)}, found none")
    check_distinct(records)
    return Source(path.name, path.parent if root is None else root, records)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        while line := file.readline(MAX_LINE_CHARS + 1):
            number += 1
            where = f"{path.name} line {number}"
            if len(line) > MAX_LINE_CHARS:
                raise ArchiveError(f"{where}: expected at most {MAX_LINE_CHARS:,} characters a line, found more")
            if line.strip():
                yield where, _object(line, where)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = next(reader, [])
            _check_columns(columns, path.name)
            for cells in reader:
                where = f"{path.name} line {reader.line_num}"
                if cells:
                    yield where, _from_cells(columns, cells, where)
        except csv.Error as error:
            raise ArchiveError(f"{path.name} line {reader.line_num} is not CSV: {error}") from error


def _check_columns(columns: list[str], name: str) -> None:
    known = [column for column in columns if column in COLUMNS or column.removeprefix(PREFIX) not in ("", column)]
    unknown = sorted(set(columns) - set(known))
    if unknown or len(set(columns)) < len(columns):
        raise ArchiveError(
            f"{name}: expected a heading with different columns of {', '.join(COLUMNS)}, separated by commas, found "
            f"{', '.join(map(repr, columns)):.200}; to keep a column of your own, call it {PREFIX}NAME"
        )


def _from_cells(columns: list[str], cells: list[str], where: str) -> dict[str, Any]:
    """The cells as the JSON values that a JSONL row would have; an empty cell is an absent value."""
    if len(cells) != len(columns):
        raise ArchiveError(f"{where}: expected {len(columns)} cells as in the heading, found {len(cells)}")
    row: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if not cell.strip():
            continue
        if column.startswith(PREFIX):
            metadata[column.removeprefix(PREFIX)] = _number(cell)
        elif column == "metadata":
            metadata |= _object(cell, f"{where}, metadata")
        elif column == "labels":
            row[column] = _list(cell, where, column) if cell.startswith("[") else cell.split(";")
        elif column == "texts":
            row[column] = _list(cell, where, column)
        else:
            row[column] = cell
    return row | ({"metadata": metadata} if metadata else {})


def _record(raw: Mapping[str, Any], where: str) -> Record:
    unknown = sorted(raw.keys() - set(COLUMNS))
    if unknown:
        raise ArchiveError(
            f"{where}: unknown {', '.join(map(repr, unknown)):.200}; known: {', '.join(COLUMNS)}; facts of your own "
            "go into metadata"
        )
    image, item_id = _text(raw, "image", where), _text(raw, "id", where)
    if item_id is None and image is None:
        raise ArchiveError(f"{where}: expected an id, or an image whose name can serve as one, found neither")
    text = _text(raw, "text", where)
    if text is not None and raw.get("texts") is not None:
        raise ArchiveError(f"{where}: expected text or texts, found both")
    texts = _texts(raw, "texts", where) if text is None else (text,)
    return Record(
        where=where,
        id=id_of_file(image or "") if item_id is None else check_id(item_id, where),
        image=image,
        texts=tuple(one for one in texts if one.strip()),
        labels=tuple(dict.fromkeys(label.strip() for label in _texts(raw, "labels", where) if label.strip())),
        group=_text(raw, "group", where) or "",
        metadata=_metadata(raw, where),
    )


def _text(raw: Mapping[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if key in ("id", "group") and type(value) is int:
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ArchiveError(f"{where}, {key}: expected a text, found {value!r:.80}")
    return _checked(value, key, where) if value else None


def _texts(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = raw.get(key)
    values = [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ArchiveError(f"{where}, {key}: expected a list of texts, found {value!r:.80}")
    return tuple(_checked(one, key, where) for one in values)


def _metadata(raw: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    value = raw.get("metadata")
    metadata = {} if value is None else value
    if not isinstance(metadata, dict):
        raise ArchiveError(f"{where}, metadata: expected an object, found {value!r:.80}")
    if reserved := [key for key in RESERVED if key in metadata]:
        raise ArchiveError(f"{where}, metadata: {', '.join(reserved)} is written by the index itself; rename it")
    _checked(json.dumps(metadata, ensure_ascii=False), "metadata", where)
    return metadata


def _checked(text: str, key: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArchiveError(f"{where}, {key}: half a surrogate pair is no character; write it as UTF-8") from error
    return text


def _object(text: str, where: str) -> dict[str, Any]:
    value = _json(text, where)
    if not isinstance(value, dict):
        raise ArchiveError(f"{where}: expected a JSON object, found {value!r:.80}")
    return value


def _list(cell: str, where: str, column: str) -> object:
    if not cell.startswith("["):
        raise ArchiveError(f'{where}, {column}: expected a JSON list such as ["a dog", "a cat"], found {cell!r:.80}')
    return _json(cell, f"{where}, {column}")


def _number(cell: str) -> object:
    """A number, true or false where the cell is one, else the text."""
    try:
        value = json.loads(cell, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, int | float) else cell


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{where} is not JSON: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
