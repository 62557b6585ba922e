"""WebDataset shards: samples of several members, read where they lie, and shards that nobody should trust."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from model.data import shards
from model.data.importing import Choices, check_rows, import_source, read_source
from model.data.records import Record, Skipped
from model.errors import ArchiveError
from model.items import ItemArchive


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 77)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def listed(source: Path) -> list[Record | Skipped]:
    return list(read_source(source).rows())


def one(source: Path) -> Record:
    [row] = listed(source)
    assert isinstance(row, Record)
    return row


def test_members_of_one_key_are_an_item(tmp_path: Path) -> None:
    facts = {"labels": ["a"], "group": 7, "width": 8, "text": "the same caption", "metadata": {"price": 2}}
    members = {"x/1.png": png(1), "x/1.txt": b"a cat\n", "x/1.json": json.dumps(facts).encode(), "x/1.cls": b"3"}
    found = one(shard(tmp_path / "a.tar", members))
    assert (found.where, found.image, found.texts) == ("a.tar, x/1", "x/1.png", ("a cat",))
    assert (found.labels, found.group, found.metadata) == (("a", "3"), "7", {"width": 8, "price": 2})


def test_a_text_may_come_from_the_json_and_other_members_are_left_alone(tmp_path: Path) -> None:
    members = {"1.json": b'{"texts": ["a", "b"], "split": "database"}', "1.seg.png": b"mask", "1.npy": b"x"}
    found = one(shard(tmp_path / "a.tar", members))
    assert (found.texts, found.image, found.split) == (("a", "b"), None, "unseen")


def test_shards_become_a_data_set_with_their_images(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"s-{number:02}.tar", {f"{number}.png": png(number), f"{number}.txt": b"text"})
    source = read_source(tmp_path / "s-{00..02}.tar")
    assert check_rows(source) == 3
    archive = ItemArchive.open(import_source(source, "mine", tmp_path / "data").path)
    assert [archive.read_image(item) for item in archive.items] == [png(number) for number in range(3)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", ["a-1.tar", "a-2.tar", "b-1.tar"]),
        ("a-*.tar", ["a-1.tar", "a-2.tar"]),
        ("a-{1..9}.tar", ["a-1.tar", "a-2.tar"]),
        ("b-1.tar", ["b-1.tar"]),
        ("c-*.tar", []),
    ],
)
def test_a_path_may_mean_several_shards(tmp_path: Path, source: str, names: list[str]) -> None:
    for name in ("a-1.tar", "a-2.tar", "b-1.tar", "other.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in shards.find_shards(tmp_path / source)] == names


def test_a_pattern_of_a_billion_shards_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARDS", 10)
    shard(tmp_path / "a-1.tar", {"1.txt": b"x"})
    with pytest.raises(ArchiveError, match="a pattern of at most 10 shards"):
        read_source(tmp_path / "a-{1..999999999}.tar")


def test_links_devices_and_climbing_names_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "1.png"), (tarfile.LNKTYPE, "2.png"), (tarfile.FIFOTYPE, "3.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
        for name in ("../4.txt", "/5.txt"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    found = listed(path)
    assert all(isinstance(row, Skipped) for row in found)
    assert len(found) == 5
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"1.txt": b"x" * (2**20 + 1), "2.txt": b"x"})
    found = listed(path)
    assert isinstance(found[0], Skipped)
    assert "at most 1,048,576 bytes" in found[0].reason
    assert len(found) == 2


@pytest.mark.parametrize("keep", [100, 512, 700, 1536, 1800, 2048])
def test_a_shard_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = shard(tmp_path / "a.tar", {"1.txt": b"x" * 600, "2.txt": b"y" * 600})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match=r"a\.tar: expected"):
        listed(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"1.txt": b"x", "2.txt": b"y"})
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"?" * 76
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="header or the end at byte 1,024"):
        listed(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.json": b"[1]"}, "expected an object, found"),
        ({"1.json": b"{"}, r"1\.json is not JSON"),
        ({"1.json": b'{"labels": "a"}'}, "labels: expected a list of texts"),
        ({"1.json": b'{"metadata": 1}'}, "metadata: expected an object"),
        ({"1.json": b'{"labels": "a"}', "1.cls": b"b"}, "labels: expected a list of texts"),
        ({"1.txt": b"\xff"}, "is not UTF-8"),
        ({"1.png": b"x", "1.jpg": b"y"}, "expected one image"),
    ],
)
def test_a_member_that_cannot_be_understood_is_named(
    tmp_path: Path, members: Mapping[str, bytes], message: str
) -> None:
    with pytest.raises(ArchiveError, match=message):
        listed(shard(tmp_path / "a.tar", members))


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", {"1.txt": b"x"})
    shard(tmp_path / "b.tar", {"1.txt": b"x"})
    with pytest.raises(ArchiveError, match=r"b\.tar, 1 and a\.tar, 1 both have the id '1'"):
        check_rows(read_source(tmp_path))


def test_shards_cannot_be_referred_to(tmp_path: Path) -> None:
    source = read_source(shard(tmp_path / "a.tar", {"1.txt": b"x"}))
    with pytest.raises(ArchiveError, match="--link: expected images in files of their own"):
        import_source(source, "mine", tmp_path / "data", Choices(link=True))
