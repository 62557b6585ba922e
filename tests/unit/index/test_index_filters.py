import math

import pytest

from index.errors import InvalidFilter
from index.filters import FieldType, parse
from index.snapshot import Snapshot

FIELDS = {
    "year": FieldType.NUMBER,
    "name": FieldType.STRING,
    "ok": FieldType.BOOLEAN,
    "mixed": FieldType.MIXED,
    "nested": FieldType.OBJECT,
}


def found(snapshot: Snapshot, raw: dict[str, object]) -> str:
    """Ids of the items that pass, one letter each; a filter means the same for items on disk and in memory."""
    filter = snapshot.filter(raw)
    on_disk = "".join("abcde"[row] for row in snapshot._generation.items.rows_matching(filter).tolist())
    in_memory = "".join(item.id for item in snapshot.items(range(5)) if filter.holds(item.metadata))
    assert on_disk == in_memory
    return on_disk


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        ({"year": 2001}, "b"),
        ({"year": 2001.0}, "b"),
        ({"year": 2002.5}, "c"),
        ({"year": {"in": [2000, 2004, 1]}}, "ae"),
        ({"year": {"gte": 2001, "lt": 2003}}, "bc"),
        ({"year": {"gt": 2001, "lte": 2003}}, "cd"),
        ({"labels": "cat"}, "ab"),
        ({"labels": {"in": ["bird", "dog", "cat"]}}, "abc"),
        ({"labels": {"gte": "c", "lt": "d"}}, "ab"),
        ({"labels": "cat", "year": {"gt": 2000}}, "b"),
        ({"ok": True}, "b"),
        ({"ok": False}, "a"),
        ({"mixed": 1}, "d"),
        ({"mixed": "one"}, "c"),
        ({"mixed": {"in": [1, "one", True]}}, "cd"),
        ({"mixed": {"gte": 0}}, "d"),
        ({"labels": "' OR 1=1 --"}, ""),
        ({"year": 10**30}, ""),
        ({"year": {"lt": 10**400}}, "abcde"),
        ({"year": {"gt": -(10**400)}}, "abcde"),
    ],
)
def test_a_filter_finds_what_it_says(snapshot: Snapshot, raw: dict[str, object], ids: str) -> None:
    assert found(snapshot, raw) == ids


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "1 to 32 fields, found 0"),
        ({f"f{n}": 1 for n in range(33)}, "found 33"),
        ({"yaer": 1}, "known: mixed, name, nested, ok, year"),
        ({"nested": 1}, "cannot be filtered on"),
        ({"year": "2001"}, "a number, found the string"),
        ({"year": True}, "a number, found the boolean"),
        ({"ok": 1}, "a boolean, found the number"),
        ({"name": None}, "a string, number or boolean, found None"),
        ({"name": ["a"]}, "a string, number or boolean"),
        ({"name": {}}, r"found operators \[\]"),
        ({"name": {"like": "a%"}}, r"found operators \['like'\]"),
        ({"name": {"in": ["a"], "gt": "a"}}, "found operators"),
        ({"name": {"in": []}}, "1 to 1000 values"),
        ({"name": {"in": "abc"}}, "1 to 1000 values"),
        ({"name": {"in": ["a"] * 1001}}, "1 to 1000 values"),
        ({"year": {"gt": "a"}}, "a number, found the string"),
        ({"ok": {"gt": True}}, "range between numbers or between strings"),
        ({"mixed": {"gt": 1, "lt": "b"}}, "range between numbers or between strings"),
        ({"year": math.nan}, "a finite number"),
        ({"year": {"lt": math.inf}}, "a finite number"),
        ({"name": "\ud800"}, "lone surrogate"),
    ],
)
def test_what_cannot_be_filtered_is_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        parse(raw, FIELDS)


def test_a_field_name_cannot_leave_its_place_in_the_query(snapshot: Snapshot) -> None:
    with pytest.raises(InvalidFilter, match="expected a metadata field"):
        snapshot.filter({"year') OR 1=1 --": 1})


def test_equal_filters_read_alike() -> None:
    one, other = parse({"year": 1, "ok": True}, FIELDS), parse({"ok": True, "year": 1}, FIELDS)
    assert one.canonical() == other.canonical()


def test_true_and_one_are_different_filters() -> None:
    assert parse({"mixed": True}, FIELDS).canonical() != parse({"mixed": 1}, FIELDS).canonical()
