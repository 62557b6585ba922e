"""``log/``: every append and delete of an index in the order they were made, in segments of consecutive positions.

A segment is named after the position of its first record, and only the last one grows. A generation says up to which
position it holds the edits; the records after it are what an opened index adds to it. ``rotate`` starts a segment,
``condense`` leaves of the segments before it only the records that still matter to some generation.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from index.durable import make_directory, sync, write_atomically
from index.errors import IndexCorrupt, IndexFormatUnsupported
from index.manifest import FORMAT
from index.records import Append, Record, frame, frame_all, frame_records, parse_records, split_frames

LOG_FOLDER = "log"
SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the next record goes."""

    segment: int = 0  # its number; 0 before the first record
    offset: int = 0  # bytes
    position: int = 0  # of the last record


@dataclass(frozen=True, slots=True)
class LogRead:
    """Records in the order they were made, and where they end."""

    records: tuple[Record, ...]
    end: LogEnd


class EditLog:
    """The folder ``log`` of one index; it need not exist yet. Whoever writes holds the writer's lock."""

    def __init__(self, index_dir: Path) -> None:
        self.path = index_dir / LOG_FOLDER
        self._index = index_dir.name

    def segments(self) -> list[int]:
        """Numbers of the segments, ascending."""
        names = [path.name.removesuffix(SUFFIX) for path in self.path.glob(f"*{SUFFIX}")]
        return sorted(int(name) for name in names if name.isdecimal())

    def segment_path(self, number: int) -> Path:
        """The file of a segment."""
        return self.path / f"{number:012d}{SUFFIX}"

    def stamp(self) -> tuple[int, int]:
        """Number and size of the last segment: what changes with every write, without reading anything."""
        numbers = self.segments()
        return (numbers[-1], self.segment_path(numbers[-1]).stat().st_size) if numbers else (0, 0)

    def read(self, after: int = 0) -> LogRead:
        """The records after a position; a last one that a crash cut off is left out.

        Raises:
            IndexCorrupt: a file is missing, cut short or altered; the message names it.
            IndexFormatUnsupported: written by a newer version.
        """
        numbers = self.segments()
        if not numbers and not after:
            return LogRead((), LogEnd())
        covering = [number for number in numbers if number <= after + 1]
        if not covering:
            raise IndexCorrupt(f"{self.path}: expected the edits from position {after + 1} on, found none; restore it")
        needed = [number for number in numbers if number >= covering[-1]]
        records: list[Record] = []
        last, offset = needed[0] - 1, 0
        for number, following in zip(needed, [*needed[1:], None], strict=True):
            if following is not None and following - 1 <= last:
                continue  # condensed into an earlier segment; a crash kept it from being deleted
            found, offset = self._read_segment(number, last)
            records += found
            last = found[-1].position if found else last
            if following is not None and last < following - 1:
                raise self._short(number, following - 1, last)
        if last < after:
            raise self._short(needed[-1], after, last)
        kept = tuple(record for record in records if record.position > after)
        return LogRead(kept, LogEnd(needed[-1], offset, last))

    def read_more(self, end: LogEnd) -> LogRead | None:
        """The records after an end that was read; None where a new segment was started since: read from the start.

        Raises:
            IndexCorrupt: as for ``read``.
        """
        numbers = self.segments()
        if not numbers:
            return LogRead((), end) if not end.segment else None
        path = self.segment_path(numbers[-1])
        if numbers[-1] != end.segment or path.stat().st_size < end.offset:
            return None
        with path.open("rb") as stream:
            stream.seek(end.offset)
            payloads, offset = split_frames(stream.read(), path, end.offset)
        records = _ascending(path, [record for payload in payloads for record in parse_records(payload, path)], end)
        return LogRead(tuple(records), LogEnd(end.segment, offset, records[-1].position if records else end.position))

    def write(self, end: LogEnd, records: Sequence[Record]) -> LogEnd:
        """Add records, durable on return: all of them, or none if this fails.

        Raises:
            InvalidItem: too much for one call.
            OSError: the disk is full or fails; the log is as it was.
        """
        data = frame_records(records)
        if not end.segment:
            end = self.rotate(end)
        descriptor = os.open(self.segment_path(end.segment), os.O_WRONLY)
        try:
            os.ftruncate(descriptor, end.offset)  # drops what a crash cut off
            os.lseek(descriptor, end.offset, os.SEEK_SET)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except BaseException:
                with suppress(OSError):  # the next writer does it again
                    os.ftruncate(descriptor, end.offset)
                    os.fsync(descriptor)
                raise
        finally:
            os.close(descriptor)
        return LogEnd(end.segment, end.offset + len(data), records[-1].position)

    def rotate(self, end: LogEnd) -> LogEnd:
        """Start a new segment, unless the last one holds no record yet."""
        number = end.position + 1
        if end.segment == number:
            return end
        make_directory(self.path)
        header = frame({"format": FORMAT, "index": self._index, "first": number})
        write_atomically(self.segment_path(number), header)
        return LogEnd(number, len(header), end.position)

    def condense(self) -> None:
        """Make one segment of all but the last: of each item the last record, and those of its original by model."""
        closed = self.segments()[:-1]
        if not closed:
            return
        following = self.segments()[-1]
        records = [record for record in self.read(closed[0] - 1).records if record.position < following]
        header = frame({"format": FORMAT, "index": self._index, "first": closed[0]})
        write_atomically(self.segment_path(closed[0]), header + frame_all(list(_last_of_each(records))))
        for number in closed[1:]:
            self.segment_path(number).unlink()
        sync(self.path)

    def blobs(self) -> set[str]:
        """Digests of all originals that some record names."""
        numbers = self.segments()
        records = self.read(numbers[0] - 1).records if numbers else ()
        appends = [record for record in records if isinstance(record, Append)]
        return {digest for one in appends for digest in (one.original, one.image, one.thumbnail) if digest is not None}

    def _read_segment(self, number: int, last: int) -> tuple[list[Record], int]:
        path = self.segment_path(number)
        try:
            payloads, offset = split_frames(path.read_bytes(), path)
        except OSError as error:
            raise IndexCorrupt(f"cannot read {path}: {error.strerror}; restore it") from error
        self._check_header(path, number, payloads[0] if payloads else None)
        records = [record for payload in payloads[1:] for record in parse_records(payload, path)]
        return _ascending(path, records, LogEnd(position=last)), offset

    def _check_header(self, path: Path, number: int, header: object) -> None:
        if not isinstance(header, dict) or not isinstance(header.get("format"), int):
            raise IndexCorrupt(f"{path} has no header; restore it")
        if header["format"] > FORMAT:
            raise IndexFormatUnsupported(
                f"{path} has format {header['format']}, this version reads up to {FORMAT}; upgrade crossbit"
            )
        if (header.get("index"), header.get("first")) != (self._index, number):
            raise IndexCorrupt(
                f"{path}: expected the log of index {self._index!r} from position {number}, found that of "
                f"{header.get('index')!r} from {header.get('first')!r}; restore it"
            )

    def _short(self, number: int, expected: int, found: int) -> IndexCorrupt:
        return IndexCorrupt(
            f"{self.segment_path(number)}: expected records up to position {expected}, found up to {found}; restore it"
        )


def _ascending(path: Path, records: list[Record], end: LogEnd) -> list[Record]:
    last = end.position
    for record in records:
        if record.position <= last:
            raise IndexCorrupt(f"{path}: expected a position above {last}, found {record.position}; restore it")
        last = record.position
    return records


def _last_of_each(records: Sequence[Record]) -> Iterator[Record]:
    """In order: of each item its last record, and the last of each other model if it is of the same original."""
    last = {record.id: record for record in records}
    by_model = {
        (record.id, record.fingerprint): record
        for record in records
        if isinstance(record, Append)
        and isinstance(final := last[record.id], Append)
        and final.original == record.original
    }
    kept = {record.position: record for record in (*last.values(), *by_model.values())}
    yield from (kept[position] for position in sorted(kept))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
