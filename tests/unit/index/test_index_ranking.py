import base64

import numpy as np
import pytest

from index.errors import CursorExpired, InvalidCursor
from index.filters import FieldType, parse
from index.ranking import Cursor, TieGroup, page, query_digest
from index.search import NumpyEngine

CURSOR = Cursor("demo", 3, 7, 20, "digest")
CODE = np.array([1, 2], dtype=np.uint8)


def test_ranks_count_from_one_through_the_total_order() -> None:
    hits = NumpyEngine(np.array([[1], [0], [3], [2]], dtype=np.uint8)).knn(np.zeros((1, 1), dtype=np.uint8), 4)
    assert [(hit.row, hit.distance, hit.rank) for hit in page(hits, 0)] == [(1, 0, 1), (0, 1, 2), (3, 1, 3), (2, 2, 4)]


def test_a_tie_group_counts_members_beyond_the_page() -> None:
    hits = NumpyEngine(np.array([[0]] + [[1]] * 9, dtype=np.uint8)).knn(np.zeros((1, 1), dtype=np.uint8), 3)
    assert [hit.tie for hit in page(hits, 0)] == [TieGroup(1, 1, 1), TieGroup(2, 10, 9), TieGroup(2, 10, 9)]


def test_an_offset_leaves_ranks_and_ties_as_they_are() -> None:
    hits = NumpyEngine(np.arange(6, dtype=np.uint8)[:, None]).knn(np.zeros((2, 1), dtype=np.uint8), 6)
    assert page(hits, 1, offset=4) == page(hits, 1)[4:]


def test_an_offset_beyond_the_hits_is_an_empty_page() -> None:
    hits = NumpyEngine(np.zeros((2, 1), dtype=np.uint8)).knn(np.zeros((2, 1), dtype=np.uint8), 2)
    assert page(hits, 0, offset=3) == []


def test_a_cursor_survives_its_text() -> None:
    assert Cursor.decode(CURSOR.encode()) == CURSOR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "%%%%",
        "abc",
        "\u00e9",
        "A" * 2000,
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(b'{"index": "d", "generation": "3", "position":0, "offset":1, "digest":""}').decode(),
        base64.urlsafe_b64encode(b'{"index": "d", "generation": true, "position":0, "offset":1, "digest":""}').decode(),
        base64.urlsafe_b64encode(b'{"index": "d", "generation": 3, "position":0, "offset":-1, "digest":""}').decode(),
        base64.urlsafe_b64encode(b"[" * 700).decode(),
    ],
)
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text)


@pytest.mark.parametrize("moved", [(4, 7), (3, 8), (3, 6)])
def test_a_cursor_of_another_generation_or_before_another_edit_has_expired(moved: tuple[int, int]) -> None:
    CURSOR.check("demo", 3, 7, "digest")
    with pytest.raises(CursorExpired, match=f"generation {moved[0]} of index 'demo' after edit {moved[1]}"):
        CURSOR.check("demo", *moved, "digest")


@pytest.mark.parametrize(("index", "digest"), [("other", "digest"), ("demo", "other")])
def test_a_cursor_of_another_query_is_refused(index: str, digest: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSOR.check(index, 3, 7, digest)


def test_the_digest_tells_queries_apart() -> None:
    by_year = parse({"year": 1}, {"year": FieldType.NUMBER})
    digests = {
        query_digest("image", CODE, radius=None, filter=None),
        query_digest("text", CODE, radius=None, filter=None),
        query_digest("image", CODE[::-1], radius=None, filter=None),
        query_digest("image", CODE, radius=3, filter=None),
        query_digest("image", CODE, radius=None, filter=by_year),
    }
    assert len(digests) == 5


def test_the_digest_does_not_depend_on_the_order_of_a_filter() -> None:
    fields = {"a": FieldType.NUMBER, "b": FieldType.NUMBER}
    one, other = parse({"a": 1, "b": 2}, fields), parse({"b": 2, "a": 1}, fields)
    assert query_digest("image", CODE, radius=1, filter=one) == query_digest("image", CODE, radius=1, filter=other)
