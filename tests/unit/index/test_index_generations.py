from collections.abc import Callable
from pathlib import Path

import pytest

from index.errors import GenerationNotFound, IndexCorrupt, IndexNotFound, InvalidIndexName, SearchError
from index.generations import IndexDirectory, check_index_name, list_indexes
from index.writer import GenerationSpec, IndexedItem, write_generation


@pytest.fixture
def directory(index_dir: Path, items: list[IndexedItem], make_spec: Callable[..., GenerationSpec]) -> IndexDirectory:
    """Generations 1, 2 and 3; 3 is active."""
    for number in (2, 3):
        write_generation(index_dir, make_spec(fingerprint=f"fingerprint {number}"), items)
        IndexDirectory(index_dir).activate(number)
    return IndexDirectory(index_dir)


@pytest.mark.parametrize("name", ["demo", "0", "a-b_c", "a" * 64])
def test_plain_names_are_names(name: str) -> None:
    assert check_index_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../x", "-a", "_a", "A", "a b", "a.b", "a" * 65, "a\n", "\u00e4"]
)
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(InvalidIndexName, match="expected an index name"):
        check_index_name(name)


def test_a_directory_of_a_bad_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound):
        IndexDirectory(tmp_path / "Not A Name")


def test_indexes_with_a_pointer_are_listed(index_dir: Path) -> None:
    (index_dir.parent / "empty").mkdir()
    assert list_indexes(index_dir.parent) == ["demo"]


def test_no_folder_lists_no_indexes(tmp_path: Path) -> None:
    assert list_indexes(tmp_path / "nowhere") == []


def test_an_index_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path / "demo")
    assert (directory.generations(), directory.current(), directory.next_number()) == ([], None, 1)


def test_the_pointer_names_the_pair(directory: IndexDirectory) -> None:
    pointer = directory.current()
    assert pointer is not None
    assert (pointer.generation, pointer.artifact, pointer.fingerprint) == (3, "artifact", "fingerprint 3")


def test_rollback_goes_to_the_newest_below_the_current(directory: IndexDirectory) -> None:
    assert directory.rollback().generation == 2
    assert directory.rollback().fingerprint == "fingerprint"
    with pytest.raises(GenerationNotFound, match="no generation below"):
        directory.rollback()
    assert directory.current() == directory.activate(1)


def test_rollback_to_a_number(directory: IndexDirectory) -> None:
    assert directory.rollback(1).generation == 1


def test_rollback_without_a_pointer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound, match="no active generation"):
        IndexDirectory(tmp_path / "demo").rollback()


def test_a_missing_generation_is_not_activated(directory: IndexDirectory) -> None:
    with pytest.raises(GenerationNotFound, match="has no generation 9; it has: 1, 2, 3"):
        directory.activate(9)
    assert directory.previous() == 2


def test_a_generation_under_another_number_is_not_activated(directory: IndexDirectory) -> None:
    directory.generation_path(1).rename(directory.generation_path(7))
    with pytest.raises(IndexCorrupt, match="expected generation 7, found 1"):
        directory.activate(7)


def test_prune_keeps_the_newest_and_the_current(directory: IndexDirectory) -> None:
    directory.activate(1)
    assert directory.prune(keep=1) == [2]
    assert directory.generations() == [1, 3]


def test_prune_keeps_two_unless_told(directory: IndexDirectory) -> None:
    assert directory.prune() == [1]
    assert directory.prune() == []


def test_prune_to_nothing_is_refused(directory: IndexDirectory) -> None:
    with pytest.raises(SearchError, match="at least 1"):
        directory.prune(keep=0)


def test_prune_leaves_the_work_of_others_alone_unless_told(directory: IndexDirectory) -> None:
    number = directory.reserve()
    (directory.path / "CURRENT.1-2.tmp").write_text("half")
    directory.prune()
    assert directory.next_number() == number + 1
    directory.prune(leftovers=True)
    assert not list(directory.path.glob("*.tmp"))


def test_a_number_is_never_given_twice(directory: IndexDirectory) -> None:
    assert [directory.reserve(), directory.reserve(), directory.next_number()] == [4, 5, 6]


def test_a_number_taken_by_another_process_is_passed_over(
    directory: IndexDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([4, 5])
    (directory.path / "generation-000004.tmp").mkdir()
    monkeypatch.setattr(IndexDirectory, "next_number", lambda _: next(numbers))
    assert directory.reserve() == 5


def test_discard_removes_what_never_served(directory: IndexDirectory) -> None:
    number = directory.reserve()
    directory.discard(number)
    directory.discard(2)
    directory.discard(99)
    assert directory.generations() == [1, 3]
    assert directory.next_number() == number


def test_what_serves_is_not_discarded(directory: IndexDirectory) -> None:
    with pytest.raises(SearchError, match="activate another"):
        directory.discard(3)


def test_foreign_files_are_not_generations(directory: IndexDirectory) -> None:
    (directory.path / "generation-000009").write_text("a file")
    (directory.path / "generation-x").mkdir()
    assert directory.generations() == [1, 2, 3]
    assert directory.next_number() == 4
