from pathlib import Path

import numpy as np

from app.shard_file import read_shard, write_shard
from index.presence import Presence
from index.writer import IndexedItem


def test_items_come_back_as_they_were_written(tmp_path: Path) -> None:
    codes = {"image": np.array([[1, 255]], np.uint8), "text": np.array([[0, 7], [128, 3]], np.uint8)}
    items = [
        IndexedItem("a\u2028b", "hash", "text\nwith a line", {"labels": ["x"], "n": 1.5}, b"\x00webp", codes),
        IndexedItem("c", "other hash", None, {}, None, {}),
        IndexedItem("d", "hash", None, {}, None, {"pair": np.array([[9, 9]], np.uint8)}, Presence.IMAGE),
    ]
    write_shard(tmp_path / "shard", items)
    for written, read in zip(items, read_shard(tmp_path / "shard", 16), strict=True):
        assert read.codes.keys() == written.codes.keys()
        assert all(np.array_equal(read.codes[name], written.codes[name]) for name in written.codes)
        assert (read.id, read.content_hash, read.text) == (written.id, written.content_hash, written.text)
        assert (read.metadata, read.thumbnail) == (written.metadata, written.thumbnail)
        assert read.presence is written.presence


def test_a_shard_of_an_earlier_version_has_no_presence(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", [IndexedItem("c", "hash", None, {}, None, {"text": np.zeros((1, 2), np.uint8)})])
    line = (tmp_path / "shard").read_text()
    (tmp_path / "shard").write_text(line.replace('"presence": 0, ', ""))
    assert "presence" not in (tmp_path / "shard").read_text()
    (read,) = read_shard(tmp_path / "shard", 16)
    assert read.presence is Presence.NONE
