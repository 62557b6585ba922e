import numpy as np
import pytest
from benchmark_files import mirflickr_labels

from model.data.columns import Inside, doubtful_columns, name_columns
from model.data.mirflickr25k import BENCHMARK, CLASS_NAMES, RELEASED
from model.errors import ArchiveError


def test_columns_that_keep_every_containment_raise_no_doubt() -> None:
    assert doubtful_columns(mirflickr_labels(50), CLASS_NAMES, BENCHMARK.inside) == []


def test_a_broken_containment_names_column_class_and_share() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=np.uint8)
    assert doubtful_columns(labels, ["dog", "animals"], [Inside("dog", "animals", 0.9)]) == [
        "column 1 ('dog') looks wrong: 66.7% of its 3 items are 'animals' (column 2) too, expected at least 90%"
    ]


@pytest.mark.parametrize(("order", "names"), [("alphabetical", CLASS_NAMES), ("released with PGHMH", RELEASED)])
def test_the_order_of_the_columns_is_recognised(order: str, names: tuple[str, ...]) -> None:
    labels = mirflickr_labels(50)[:, [CLASS_NAMES.index(name) for name in names]]
    columns = name_columns(labels, stated=None, orders=BENCHMARK.orders, inside=BENCHMARK.inside)
    assert (columns.names, columns.order, columns.doubts) == (names, order, ())


def test_an_order_that_nobody_knows_is_refused_with_the_way_out() -> None:
    labels = np.roll(mirflickr_labels(50), 5, axis=1)
    with pytest.raises(ArchiveError, match=r"no known column order fits .*looks wrong.* to classes\.txt"):
        name_columns(labels, stated=None, orders=BENCHMARK.orders, inside=BENCHMARK.inside)


def test_stated_names_are_taken_and_their_doubts_are_told() -> None:
    names = [*CLASS_NAMES[5:], *CLASS_NAMES[:5]]
    columns = name_columns(mirflickr_labels(50), stated=names, orders=BENCHMARK.orders, inside=BENCHMARK.inside)
    assert columns.names == tuple(names)
    assert columns.order == "classes.txt"
    assert columns.doubts


@pytest.mark.parametrize("stated", [["a"], ["a", "a"], ["a", ""], ["a", "b", "c"]])
def test_stated_names_must_be_as_many_as_columns_and_different(stated: list[str]) -> None:
    with pytest.raises(ArchiveError, match=r"classes\.txt: expected 2 different class names"):
        name_columns(np.ones((3, 2), dtype=np.uint8), stated=stated, orders={}, inside=())


def test_an_unknown_number_of_columns_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"label file: expected 24 columns, found 38"):
        name_columns(np.ones((3, 38), dtype=np.uint8), stated=None, orders=BENCHMARK.orders, inside=())
