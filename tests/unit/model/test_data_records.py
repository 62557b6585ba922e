import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.records import check_id, id_of_file, words_of_file
from model.errors import ArchiveError


@given(st.lists(st.text(min_size=1, max_size=120), unique=True, max_size=20))
def test_ids_of_files_are_safe_in_urls_and_never_meet(names: list[str]) -> None:
    ids = [id_of_file(name) for name in names]
    assert len(set(ids)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", one) for one in ids)
    assert ids == [id_of_file(name) for name in names]


def test_a_plain_name_is_its_own_id() -> None:
    assert id_of_file("IMG_1234.jpg") == "IMG_1234.jpg"


def test_an_odd_name_keeps_what_can_be_read() -> None:
    assert re.fullmatch(r"holiday-red-apple.jpg-[0-9a-f]{8}", id_of_file("holiday/red apple.jpg"))


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("red-apple_02", "red apple"),
        ("Cute skull", "Cute skull"),
        ("0001", "0001"),
        ("---", "---"),
        ("école.été", "école été"),
    ],
)
def test_words_of_a_file_name(stem: str, words: str) -> None:
    assert words_of_file(stem) == words


@pytest.mark.parametrize("item_id", ["SKU 12/34", "a", "ä:1", "x" * 200])
def test_a_callers_id_is_kept(item_id: str) -> None:
    assert check_id(item_id, "row 1") == item_id


@pytest.mark.parametrize("item_id", ["", " a", "a\n", "a/../b", "./a", "a//b", "/a", "a/", "..", "x" * 201, "a\x00b"])
def test_an_id_that_urls_would_change_is_refused(item_id: str) -> None:
    with pytest.raises(ArchiveError, match="row 1: expected an id"):
        check_id(item_id, "row 1")
