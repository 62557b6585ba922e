"""The workflow engine has one door."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_one_module_imports_dbos() -> None:
    files = (path for package in ("app", "model", "encoders", "index") for path in (ROOT / package).rglob("*.py"))
    found = [path.name for path in files if re.search(r"^\s*(from|import) dbos\b", path.read_text(), re.MULTILINE)]
    assert found == ["workflows.py"]
