"""WebDataset shards as sources: tar files whose members ``key.jpg``, ``key.txt`` and ``key.json`` are an item.

Members are read where they lie and never extracted. ``docs/train.md`` says what each may hold.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from model.data.folder import SUFFIXES as IMAGE_SUFFIXES
from model.data.records import RESERVED, Record, Skipped, Source, id_of_file, make_record
from model.errors import ArchiveError
from model.items import MAX_IMAGE_BYTES

SUFFIX = ".tar"
MAX_SHARDS = 100_000
MAX_TEXT_BYTES = 2**20  # of a .txt, .json or .cls member
TEXT_SUFFIXES = frozenset({".txt", ".json", ".cls"})
_BLOCK = 512
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_KEYS = ("text", "texts", "labels", "group", "split")  # of a .json member that are not metadata


@dataclass(slots=True)
class _Sample:
    """The members of one key."""

    key: str
    where: str
    image: tarfile.TarInfo | None = None
    texts: dict[str, str] = field(default_factory=dict)  # by suffix


def find_shards(source: Path) -> list[Path]:
    """The shards that a path means, sorted: a file, a folder of them, or a pattern with ``{00..12}``, ``*`` or ``?``.

    Raises:
        ArchiveError: the pattern has too many names.
    """
    if source.is_file():
        return [source] if source.suffix.lower() == SUFFIX else []
    if source.is_dir():
        return sorted(path for path in source.iterdir() if path.suffix.lower() == SUFFIX and path.is_file())
    names = list(islice(_expand(source.name), MAX_SHARDS + 1))
    if len(names) > MAX_SHARDS:
        raise ArchiveError(f"{source}: expected a pattern of at most {MAX_SHARDS:,} shards, found more")
    found = {path for name in names for path in source.parent.glob(name) if path.suffix.lower() == SUFFIX}
    return sorted(path for path in found if path.is_file())


def read_shards(source: Path, shards: list[Path]) -> Source:
    """The samples of the shards, in the order of shards and members; a sample's id is made of its key.

    Listing raises ``ArchiveError`` for a shard that is damaged or cut short.
    """

    def rows() -> Iterator[Record | Skipped]:
        for shard in shards:
            yield from _read_shard(shard)

    return Source(source.name, source.parent, rows, stays=False)


def _expand(name: str) -> Iterator[str]:
    """``a-{08..10}.tar`` -> a-08.tar, a-09.tar, a-10.tar."""
    found = _RANGE.search(name)
    if found is None:
        yield name
        return
    first, last = found[1], found[2]
    for number in range(int(first), int(last) + 1):
        yield from _expand(f"{name[: found.start()]}{number:0{len(first)}}{name[found.end() :]}")


def _read_shard(shard: Path) -> Iterator[Record | Skipped]:
    try:
        with tarfile.open(shard, "r:", errorlevel=2) as tar:
            sample: _Sample | None = None
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
                if member.isdir():
                    continue
                name = PurePosixPath(member.name)
                where = f"{shard.name}, {_printable(member.name)}"
                if problem := _problem(member, name):
                    yield Skipped(where, problem)
                    continue
                key, _, suffix = name.name.partition(".")
                key = str(name.with_name(key)) if key else name.name
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield _row(tar, sample)
                    sample = _Sample(key, f"{shard.name}, {_printable(key)}")
                _take(tar, sample, member, f".{suffix.lower()}")
            if sample is not None:
                yield _row(tar, sample)
            _check_end(tar, shard)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise ArchiveError(f"{shard.name}: expected a whole tar file, found {error!s:.200}; copy it again") from error


def _problem(member: tarfile.TarInfo, name: PurePosixPath) -> str | None:
    if not member.isreg():
        return "expected a plain file, found a link or device; it was not read"
    if name.is_absolute() or ".." in name.parts:
        return "the member's name leads out of the shard; it was not read"
    limit = MAX_TEXT_BYTES if name.suffix.lower() in TEXT_SUFFIXES else MAX_IMAGE_BYTES
    known = name.suffix.lower() in TEXT_SUFFIXES | IMAGE_SUFFIXES
    if known and member.size > limit:
        return f"expected at most {limit:,} bytes, found {member.size:,}; it was not read"
    return None


def _take(tar: tarfile.TarFile, sample: _Sample, member: tarfile.TarInfo, suffix: str) -> None:
    """Keep what an item needs of a member; members of other kinds, such as masks, are left alone."""
    if suffix in sample.texts or (suffix in IMAGE_SUFFIXES and sample.image is not None):
        raise ArchiveError(f"{sample.where}: expected one image and one {suffix} of each key, found another")
    if suffix in IMAGE_SUFFIXES:
        sample.image = member
    elif suffix in TEXT_SUFFIXES:
        try:
            sample.texts[suffix] = _read(tar, member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ArchiveError(f"{sample.where}{suffix} is not UTF-8: {error}; save it as UTF-8") from error


def _row(tar: tarfile.TarFile, sample: _Sample) -> Record | Skipped:
    if sample.image is None and not sample.texts:
        return Skipped(sample.where, "it has neither an image nor a text")
    raw = _json(sample)
    lines = [line.strip() for line in sample.texts.get(".txt", "").splitlines() if line.strip()]
    if lines:  # the caption; another in the JSON is what img2dataset and others repeat it as
        raw.pop("text", None)
        raw["texts"] = lines
    if label := sample.texts.get(".cls", "").strip():
        given = raw.get("labels") or []
        raw["labels"] = [*given, label] if isinstance(given, list) else given
    name = None if sample.image is None else sample.image.name
    record = make_record({**raw, "id": id_of_file(sample.key)}, sample.where)
    if sample.image is None:
        return record
    return Record(
        where=record.where,
        id=record.id,
        image=name,
        texts=record.texts,
        labels=record.labels,
        group=record.group,
        split=record.split,
        metadata=record.metadata,
        read_image=partial(_read, tar, sample.image),
    )


def _json(sample: _Sample) -> dict[str, Any]:  # Any: JSON
    """The columns in a .json member; what is not a column of ours is metadata, as other tools write theirs there."""
    if ".json" not in sample.texts:
        return {}
    try:
        value = json.loads(sample.texts[".json"])
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{sample.where}.json is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArchiveError(f"{sample.where}.json: expected an object, found {value!r:.80}")
    raw = {key: value.pop(key) for key in _KEYS if key in value}
    metadata = value.pop("metadata", {})
    if not isinstance(metadata, dict):
        raise ArchiveError(f"{sample.where}.json, metadata: expected an object, found {metadata!r:.80}")
    others = {key: one for key, one in value.items() if key not in RESERVED}
    return {**raw, "metadata": {**others, **metadata}}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) != member.size:
        raise ArchiveError(f"{member.name}: expected {member.size:,} bytes, found {len(data):,}; copy the shard again")
    return data


def _check_end(tar: tarfile.TarFile, shard: Path) -> None:
    # tarfile takes a damaged or cut header for the end
    with shard.open("rb") as file:
        file.seek(tar.offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise ArchiveError(f"{shard.name}: expected a header or the end at byte {tar.offset:,}, found neither")


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
