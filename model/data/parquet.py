"""Parquet manifests: the columns of the other kinds, read a batch of rows at a time. Needs the extra ``parquet``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.records import PREFIX, check_columns
from model.errors import ArchiveError

BATCH_ROWS = 1_000


def parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and row number with the row's values; null is an absent value.

    Raises:
        ArchiveError: it is no Parquet file, or damaged, or a column is not known; or pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ArchiveError(
            f"{path.name}: expected pyarrow, which reads Parquet, found none; install it with pip install "
            "'crossbit[parquet]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, path.name)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", _row(row)
    except (pyarrow.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{path.name} after row {number}: expected a whole Parquet file, found {error!s:.300}"
        ) from error


def _row(cells: dict[str, Any]) -> dict[str, Any]:
    """The cells as the values that a JSONL row would have."""
    present = {column: cell for column, cell in cells.items() if cell is not None}
    facts = {column.removeprefix(PREFIX): present.pop(column) for column in list(present) if column.startswith(PREFIX)}
    if facts and isinstance(metadata := present.get("metadata", {}), dict):
        present["metadata"] = {**metadata, **facts}
    return present
