import errno
import os
from pathlib import Path

import pytest

from index.durable import remove_directory, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_goes_even_where_an_earlier_attempt_was_cut_off(tmp_path: Path) -> None:
    for name in ("directory", "directory.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    remove_directory(tmp_path / "directory")
    assert list(tmp_path.iterdir()) == []
