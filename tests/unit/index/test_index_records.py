from dataclasses import replace
from pathlib import Path

import pytest

from index.errors import IndexCorrupt, InvalidItem
from index.presence import Presence
from index.records import Append, Delete, effective, frame, frame_records, parse_records, split_frames

PATH = Path("log") / "000000000001.log"


def append(position: int, item_id: str = "a", *, fingerprint: str = "one", original: str = "first") -> Append:
    codes = {"image": b"\x01\x02"}
    return Append(position, item_id, fingerprint, "hash", None, {"year": 1}, codes, original, None, None)


RECORDS = [append(1), Delete(2, "b"), append(3, "é")]
START = len(frame({"format": 2}))
DATA = frame({"format": 2}) + frame_records(RECORDS)


def test_records_come_back_as_they_were_written() -> None:
    payloads, end = split_frames(DATA, PATH)
    assert parse_records(payloads[1], PATH) == RECORDS
    assert end == len(DATA)


def test_a_last_frame_that_was_cut_off_is_left_out() -> None:
    for cut in range(1, len(DATA) - START):
        payloads, end = split_frames(DATA[:-cut], PATH)
        assert (len(payloads), end) == (1, START)


@pytest.mark.parametrize("written", [0, 5, 11, 12, 40])
def test_a_last_frame_whose_end_was_never_written_is_left_out(written: int) -> None:
    zeros = bytes(len(DATA) - START - written)
    assert split_frames(DATA[: START + written] + zeros, PATH)[1] == START


def test_a_bit_that_changed_anywhere_is_named() -> None:
    for offset in range(len(DATA)):
        damaged = DATA[:offset] + bytes([DATA[offset] ^ 1]) + DATA[offset + 1 :]
        record = 0 if offset < START else START
        with pytest.raises(IndexCorrupt, match=rf"000000000001\.log: the record at offset {record} is damaged"):
            split_frames(damaged, PATH)


def test_what_pair_codes_were_made_from_is_told_where_there_are_some() -> None:
    fused = replace(append(1), codes={"pair": b"\x01\x02"}, presence=Presence.BOTH)
    (payload, plain), _ = split_frames(frame_records([fused]) + frame_records([append(2)]), PATH)
    assert (payload[0]["presence"], "presence" in plain[0]) == (3, False)
    assert parse_records(payload + plain, PATH) == [fused, append(2)]


def test_an_unknown_presence_is_refused() -> None:
    ((payload,), _) = split_frames(frame_records([append(1)]), PATH)
    with pytest.raises(IndexCorrupt, match="no list of records"):
        parse_records([payload[0] | {"presence": 4}], PATH)


@pytest.mark.parametrize("payload", [None, {"kind": "delete"}, [{"kind": "other"}], [{"kind": "delete"}], [1]])
def test_what_is_no_record_is_refused(payload: object) -> None:
    with pytest.raises(IndexCorrupt, match="no list of records"):
        parse_records(payload, PATH)


def test_a_frame_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.records.MAX_PAYLOAD", 10)
    with pytest.raises(InvalidItem, match="append fewer items at a time"):
        frame_records(RECORDS)


def test_the_last_record_of_an_item_counts() -> None:
    assert effective([append(1), Delete(2, "a")], "one", {}) == {"a": Delete(2, "a")}
    assert effective([append(3)], "one", {"a": Delete(2, "a")}) == {"a": append(3)}


def test_codes_of_another_model_do_not_hide_those_of_the_same_original() -> None:
    mine, other = append(1), append(2, fingerprint="two")
    assert effective([mine, other], "one", {}) == {"a": mine}
    assert effective([mine, other], "two", {}) == {"a": other}
    replaced = append(2, fingerprint="two", original="second")
    assert effective([mine, replaced], "one", {}) == {"a": replaced}
