import errno
import os
from pathlib import Path

import pytest

from index.edit_log import EditLog, LogEnd, LogRead
from index.errors import IndexCorrupt, IndexFormatUnsupported
from index.records import Append, Delete, Record, frame, frame_records


@pytest.fixture
def log(tmp_path: Path) -> EditLog:
    """The log of the index ``demo``, without a record."""
    (tmp_path / "demo").mkdir()
    return EditLog(tmp_path / "demo")


def deletes(first: int, last: int) -> list[Record]:
    return [Delete(position, f"item {position}") for position in range(first, last + 1)]


def segmented(log: EditLog, *lasts: int) -> LogEnd:
    """Write one delete a position in segments that end at these positions; the last one goes on growing."""
    end = LogEnd()
    for last in lasts:
        end = log.rotate(log.write(end, deletes(end.position + 1, last)))
    return end


def test_a_log_that_was_never_written_is_empty(log: EditLog) -> None:
    assert log.read() == log.read_more(LogEnd()) == LogRead((), LogEnd())
    assert log.stamp() == (0, 0)


def test_records_are_read_from_any_position(log: EditLog) -> None:
    end = segmented(log, 3, 5)
    end = log.write(end, deletes(6, 7))
    for after in range(8):
        assert [record.position for record in log.read(after).records] == list(range(after + 1, 8))
        assert log.read(after).end == end


def test_only_what_is_new_is_read(log: EditLog) -> None:
    first = log.write(LogEnd(), deletes(1, 2))
    second = log.write(first, deletes(3, 3))
    more = log.read_more(first)
    assert more is not None
    assert (more.records, more.end) == (tuple(deletes(3, 3)), second)
    log.rotate(second)
    assert log.read_more(second) is None


def test_a_stamp_changes_with_every_write(log: EditLog) -> None:
    stamps = [log.stamp()]
    end = log.write(LogEnd(), deletes(1, 1))
    stamps.append(log.stamp())
    end = log.write(end, deletes(2, 2))
    stamps.append(log.stamp())
    log.rotate(end)
    stamps.append(log.stamp())
    assert len(set(stamps)) == 4


def test_rotating_an_empty_segment_changes_nothing(log: EditLog) -> None:
    end = segmented(log, 2)
    assert log.rotate(end) == end
    assert log.segments() == [1, 3]


def test_what_a_crash_cut_off_is_overwritten(log: EditLog) -> None:
    end = log.write(LogEnd(), deletes(1, 1))
    with log.segment_path(1).open("ab") as stream:
        stream.write(frame_records(deletes(2, 9))[:-9])
    assert log.read().end == end
    log.write(end, deletes(2, 2))
    assert [record.position for record in log.read().records] == [1, 2]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_write_leaves_the_log_as_it_was(log: EditLog, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    end = log.write(LogEnd(), deletes(1, 1))
    before = log.segment_path(1).read_bytes()

    def fail(descriptor: int, *_: object) -> int:
        if call == "write":
            os.pwrite(descriptor, b"half", end.offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            log.write(end, deletes(2, 2))
    assert log.segment_path(1).read_bytes() == before
    assert log.write(end, deletes(2, 2)).position == 2


def test_condensing_leaves_the_last_record_of_each_item(log: EditLog) -> None:
    end = log.write(LogEnd(), [Delete(1, "a"), Delete(2, "b"), Delete(3, "a")])
    end = log.rotate(end)
    end = log.rotate(log.write(end, [Delete(4, "b"), Delete(5, "c")]))
    log.write(end, [Delete(6, "c")])
    log.condense()
    assert [record.position for record in log.read().records] == [3, 4, 5, 6]
    assert log.segments() == [1, 6]
    log.condense()
    assert [record.position for record in log.read(3).records] == [4, 5, 6]


def test_condensing_keeps_the_codes_of_every_model_for_the_last_original(log: EditLog) -> None:
    def append(position: int, fingerprint: str, original: str) -> Append:
        return Append(position, "a", fingerprint, "hash", None, {}, {}, original, None, None)

    records = [append(1, "one", "old"), append(2, "one", "new"), append(3, "two", "new"), append(4, "two", "new")]
    log.rotate(log.write(LogEnd(), records))
    log.condense()
    assert [record.position for record in log.read().records] == [2, 4]


def test_a_segment_that_was_condensed_into_another_is_skipped(log: EditLog) -> None:
    segmented(log, 2, 4)
    kept = log.segment_path(3).read_bytes()
    log.condense()
    log.segment_path(3).write_bytes(kept)  # the crash came before it was deleted
    assert [record.position for record in log.read().records] == [1, 2, 3, 4]


def test_a_missing_segment_is_named(log: EditLog) -> None:
    segmented(log, 2, 4)
    log.segment_path(3).unlink()
    with pytest.raises(IndexCorrupt, match=r"000000000001\.log: expected records up to position 4, found up to 2"):
        log.read()
    log.segment_path(1).unlink()
    with pytest.raises(IndexCorrupt, match="log: expected the edits from position 1 on, found none"):
        log.read()


def test_a_log_that_a_generation_needs_must_be_there(log: EditLog) -> None:
    with pytest.raises(IndexCorrupt, match="expected the edits from position 8 on, found none"):
        log.read(7)


def test_a_segment_that_lost_its_end_is_named(log: EditLog) -> None:
    segmented(log, 3)
    log.write(log.read().end, deletes(4, 4))
    path = log.segment_path(1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexCorrupt, match=r"000000000001\.log: expected records up to position 3, found up to 0"):
        log.read()


def test_the_log_of_another_index_is_refused(log: EditLog, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = EditLog(tmp_path / "other")
    other.write(LogEnd(), deletes(1, 1))
    log.write(LogEnd(), deletes(1, 1))
    log.segment_path(1).write_bytes(other.segment_path(1).read_bytes())
    with pytest.raises(IndexCorrupt, match=r"expected the log of index 'demo' from position 1, found that of 'other'"):
        log.read()


def test_segments_that_changed_places_are_refused(log: EditLog) -> None:
    segmented(log, 2, 4)
    log.segment_path(1).replace(log.segment_path(3))
    with pytest.raises(IndexCorrupt, match=r"000000000003\.log: expected the log of index 'demo' from position 3"):
        log.read(2)


def test_a_newer_format_is_refused_by_name(log: EditLog) -> None:
    segmented(log, 1)
    log.segment_path(1).write_bytes(frame({"format": 99, "index": "demo", "first": 1}))
    with pytest.raises(IndexFormatUnsupported, match=r"000000000001\.log has format 99, this version reads"):
        log.read()


def test_a_segment_without_a_header_is_refused(log: EditLog) -> None:
    segmented(log, 1)
    log.segment_path(2).write_bytes(b"")
    with pytest.raises(IndexCorrupt, match=r"000000000002\.log has no header"):
        log.read()
