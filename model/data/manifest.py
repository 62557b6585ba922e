"""Manifests as sources: CSV, JSON Lines or Parquet with one item a row. ``docs/train.md`` describes the columns."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from model.data.parquet import parquet_rows
from model.data.records import COLUMNS, PREFIX, Record, Source, check_columns, make_record
from model.errors import ArchiveError

SUFFIXES = (".csv", ".jsonl", ".parquet")
MAX_LINE_CHARS = 2**20


def read_manifest(path: Path, root: Path | str | None = None) -> Source:
    """A manifest whose image names are relative to ``root``, its own folder unless given.

    Raises:
        ArchiveError: the heading or the first row cannot be understood; listing it raises the same for any other row.
    """
    if next(_records(path), None) is None:
        raise ArchiveError(f"{path.name}: expected rows with the columns {', '.join(COLUMNS)}, found none")
    return Source(path.name, path.parent if root is None else root, lambda: _records(path))


def _records(path: Path) -> Iterator[Record]:
    try:
        for where, raw in _READERS[path.suffix.lower()](path):
            yield make_record(raw, where)
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path.name} is not UTF-8: {error}; save it as UTF-8") from error
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror or error}") from error


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
            check_columns(columns, path.name)
            for cells in reader:
                where = f"{path.name} line {reader.line_num}"
                if cells:
                    yield where, _from_cells(columns, cells, where)
        except csv.Error as error:
            raise ArchiveError(f"{path.name} line {reader.line_num} is not CSV: {error}") from error


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


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": parquet_rows,
}
