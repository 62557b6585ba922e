import numpy as np
import pytest

from index.search.distinct import group


@pytest.mark.parametrize("width", [1, 8, 9, 16])
def test_every_row_is_listed_once_under_its_own_code(width: int) -> None:
    codes = np.random.default_rng(width).integers(0, 2, (200, width), dtype=np.uint8)
    distinct, postings = group(codes)
    assert len(np.unique(codes, axis=0)) == len(distinct)
    assert sorted(postings.rows.tolist()) == list(range(200))
    owners = np.repeat(np.arange(len(distinct)), postings.counts())
    assert np.array_equal(distinct[owners], codes[postings.rows])


def test_rows_ascend_inside_a_list() -> None:
    _, postings = group(np.zeros((50, 3), dtype=np.uint8))
    assert postings.rows.tolist() == list(range(50))


def test_no_codes_make_no_lists() -> None:
    distinct, postings = group(np.empty((0, 8), dtype=np.uint8))
    assert distinct.shape == (0, 8)
    assert postings.offsets.tolist() == [0]


def test_restricting_drops_rows_and_empty_lists() -> None:
    _, postings = group(np.array([[1], [2], [1], [3]], dtype=np.uint8))
    rest, codes = postings.restrict(np.array([False, False, True, True]))
    assert codes.tolist() == [0, 2]
    assert rest.rows.tolist() == [2, 3]
    assert rest.offsets.tolist() == [0, 1, 2]


def test_expanding_stops_at_the_limit_of_each_list() -> None:
    _, postings = group(np.array([[1], [2], [1], [1]], dtype=np.uint8))
    rows, source = postings.expand(np.array([1, 0]), 2)
    assert rows.tolist() == [1, 0, 2]
    assert source.tolist() == [0, 1, 1]
