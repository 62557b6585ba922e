import re
import sqlite3
from dataclasses import fields
from pathlib import Path

import pytest

from index.item_file import SCHEMA
from index.manifest import ColumnManifest, FileEntry, GenerationManifest, Pointer

PAGE = (Path(__file__).parents[3] / "docs" / "file-formats.md").read_text()


@pytest.mark.parametrize("kind", [Pointer, GenerationManifest, ColumnManifest, FileEntry])
def test_the_page_names_every_key(kind: type) -> None:
    assert [field.name for field in fields(kind) if not re.search(rf'[`"]{field.name}[`"]', PAGE)] == []


def test_the_page_shows_the_tables_as_they_are_made() -> None:
    shown = re.search(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    assert shown is not None
    assert columns(shown[1]) == columns(SCHEMA)


def columns(schema: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema)
    found = connection.execute(
        "SELECT m.name, c.name, c.type, c.'notnull', c.pk FROM sqlite_master m, pragma_table_info(m.name) c "
        "ORDER BY m.name, c.name"
    ).fetchall()
    connection.close()
    return found
