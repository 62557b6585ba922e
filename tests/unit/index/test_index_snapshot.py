import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import (
    ColumnNotFound,
    GenerationNotFound,
    IndexCorrupt,
    IndexNotFound,
    InvalidQuery,
    ItemNotFound,
    ModelMismatch,
    SearchError,
)
from index.generations import IndexDirectory
from index.manifest import FORMAT, Pointer
from index.ranking import TieGroup
from index.snapshot import Answer, Snapshot, verify_index
from index.writer import IndexedItem, write_generation

ZERO = np.zeros((1, 2), dtype=np.uint8)


def ask(snapshot: Snapshot, column: str = "image", **changes: Any) -> Answer:  # noqa: ANN401 - search's arguments
    arguments = {"k": None, "radius": None, "limit": 10, "fingerprint": "fingerprint"} | changes
    return snapshot.search(column, ZERO, **arguments)[0]


def ids(snapshot: Snapshot, answer: Answer) -> str:
    return "".join(item.id for item in snapshot.items([hit.row for hit in answer.hits]))


def test_it_opens_the_generation_that_is_current(snapshot: Snapshot) -> None:
    assert (snapshot.index, snapshot.generation, snapshot.bits) == ("demo", 1, 16)
    assert snapshot.columns == ("image", "text")


def test_hits_are_items_by_distance_then_id(snapshot: Snapshot) -> None:
    answer = ask(snapshot)
    assert ids(snapshot, answer) == "abcd"
    assert [hit.distance for hit in answer.hits] == [0, 1, 1, 16]
    assert [hit.tie for hit in answer.hits] == [TieGroup(1, 1, 1), *[TieGroup(2, 3, 2)] * 2, TieGroup(4, 4, 1)]
    assert (answer.total, answer.truncated, answer.more) == (4, False, False)


def test_an_item_with_several_codes_is_one_hit_at_its_smallest_distance(snapshot: Snapshot) -> None:
    answer = ask(snapshot, "text")
    assert ids(snapshot, answer) == "ed"
    assert [hit.distance for hit in answer.hits] == [0, 1]
    assert answer.total == 2


def test_a_page_of_items_with_several_codes_counts_items(snapshot: Snapshot) -> None:
    answer = ask(snapshot, "text", limit=1)
    assert (ids(snapshot, answer), answer.total, answer.more) == ("e", 2, True)


def test_a_page_says_whether_more_follow(snapshot: Snapshot) -> None:
    assert ask(snapshot, limit=3).more
    assert not ask(snapshot, limit=3, offset=1).more
    assert ids(snapshot, ask(snapshot, limit=2, offset=1)) == "bc"


def test_k_ends_the_answer_on_any_page(snapshot: Snapshot) -> None:
    answer = ask(snapshot, k=3, limit=2, offset=2)
    assert (ids(snapshot, answer), answer.total, answer.more, answer.truncated) == ("c", 4, False, False)
    assert ask(snapshot, k=1, offset=5).hits == []


def test_a_radius_is_inclusive_and_counts_all(snapshot: Snapshot) -> None:
    answer = ask(snapshot, radius=1, limit=1)
    assert (ids(snapshot, answer), answer.total, answer.more, answer.truncated) == ("a", 3, True, False)


def test_k_that_hides_items_within_the_radius_truncates(snapshot: Snapshot) -> None:
    answer = ask(snapshot, radius=1, k=2)
    assert (ids(snapshot, answer), answer.total, answer.more, answer.truncated) == ("ab", 3, False, True)


def test_a_filter_restricts_hits_and_total(snapshot: Snapshot) -> None:
    answer = ask(snapshot, filter=snapshot.filter({"year": {"gte": 2001}}), limit=1)
    assert (ids(snapshot, answer), answer.total, answer.more) == ("b", 3, True)
    assert answer.hits[0].tie == TieGroup(1, 2, 2)


def test_a_filter_restricts_items_with_several_codes(snapshot: Snapshot) -> None:
    assert ids(snapshot, ask(snapshot, "text", filter=snapshot.filter({"mixed": 1}))) == "d"


def test_codes_of_another_model_are_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ModelMismatch) as caught:
        ask(snapshot, fingerprint="other")
    assert (caught.value.index_fingerprint, caught.value.model_fingerprint) == ("fingerprint", "other")


def test_codes_of_unknown_origin_are_searched(snapshot: Snapshot) -> None:
    assert ask(snapshot, fingerprint=None).total == 4


def test_a_column_that_is_not_there_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ColumnNotFound, match="no column 'pair'; it has: image, text"):
        ask(snapshot, "pair")


@pytest.mark.parametrize("changes", [{"k": 0}, {"limit": 0}, {"offset": -1}, {"radius": 17}, {"radius": -1}])
def test_what_cannot_be_asked_is_refused(snapshot: Snapshot, changes: dict[str, int]) -> None:
    with pytest.raises(InvalidQuery):
        ask(snapshot, **changes)


def test_queries_of_another_length_are_refused(snapshot: Snapshot) -> None:
    with pytest.raises(InvalidQuery, match="expected queries of 16 bits"):
        snapshot.search("image", np.zeros((1, 8), dtype=np.uint8), k=1, radius=None, limit=1, fingerprint=None)


def test_every_query_gets_its_answer(snapshot: Snapshot) -> None:
    queries = np.array([[0, 0], [255, 255]], dtype=np.uint8)
    answers = snapshot.search("image", queries, k=1, radius=None, limit=1, fingerprint=None)
    assert [ids(snapshot, answer) for answer in answers] == ["a", "d"]


def test_an_item_is_given_back_as_written(snapshot: Snapshot) -> None:
    item = snapshot.item("d")
    assert (item.row, item.id, item.content_hash, item.text) == (3, "d", "hash of d", "text of d")
    assert item.metadata == {"year": 2003, "mixed": 1}
    assert item.codes == {"image": ["ffff"], "text": ["0700", "0100"]}


def test_items_come_in_the_order_asked_for(snapshot: Snapshot) -> None:
    assert [item.id for item in snapshot.items([4, 0, 4, 2])] == ["e", "a", "e", "c"]
    assert snapshot.items([]) == []


@pytest.mark.parametrize("item_id", ["", "zz", "A", "\ud800", "a\x00"])
def test_an_item_that_is_not_there_is_refused(snapshot: Snapshot, item_id: str) -> None:
    for call in (snapshot.item, snapshot.row_of, snapshot.thumbnail, lambda name: snapshot.codes_of(name, "image")):
        with pytest.raises(ItemNotFound, match="expected the id of an item"):
            call(item_id)


def test_thumbnails_are_given_back_where_there_are_any(snapshot: Snapshot) -> None:
    assert snapshot.thumbnail("b") == b"webp of b"
    assert snapshot.thumbnail("c") is None


def test_codes_of_an_item(snapshot: Snapshot) -> None:
    assert snapshot.codes_of("d", "text").tolist() == [[7, 0], [1, 0]]
    assert snapshot.codes_of("e", "image").shape == (0, 2)


def test_codes_are_found_by_content(snapshot: Snapshot) -> None:
    lookup = snapshot.reusable_codes()
    found = lookup("hash of d")
    assert found is not None
    assert {modality: codes.tolist() for modality, codes in found.items()} == {
        "image": [[255, 255]],
        "text": [[7, 0], [1, 0]],
    }
    assert lookup("another hash") is None


def test_diagnostics_count_bits_and_buckets(snapshot: Snapshot) -> None:
    image = snapshot.diagnostics("image")
    assert (image.codes, image.distinct, image.distinct_ratio, image.largest_bucket) == (4, 3, 0.75, 2)
    assert (image.balance_min, image.balance_max, image.dead_bits) == (0.25, 0.75, 0)
    assert snapshot.diagnostics("text").dead_bits == 13


def test_an_unknown_engine_is_refused_at_once(index_dir: Path) -> None:
    with pytest.raises(InvalidQuery, match="expected an engine named one of auto, kernel, faiss, numpy, found 'annoy'"):
        Snapshot.open(index_dir, engine="annoy")


@pytest.mark.parametrize("engine", ["numpy", "faiss", "auto"])
def test_engines_answer_alike(index_dir: Path, engine: str) -> None:
    with Snapshot.open(index_dir, engine=engine) as snapshot:
        snapshot.warm()
        assert ids(snapshot, ask(snapshot)) == "abcd"
        assert ids(snapshot, ask(snapshot, "text", radius=1)) == "ed"


def test_an_index_without_a_pointer_is_not_found(tmp_path: Path, items: list[IndexedItem], make_spec: Any) -> None:  # noqa: ANN401 - a maker of specs
    write_generation(tmp_path / "demo", make_spec(), items)
    with pytest.raises(IndexNotFound, match="no index 'demo' with an active generation"):
        Snapshot.open(tmp_path / "demo")


def test_an_index_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFound):
        Snapshot.open(tmp_path / "nowhere")
    with pytest.raises(GenerationNotFound, match="it has: none"):
        Snapshot.open(tmp_path / "nowhere", 1)


def test_a_pointer_to_nothing_is_corrupt(index_dir: Path) -> None:
    Pointer(FORMAT, "artifact", "fingerprint", 9).save(index_dir / "CURRENT")
    with pytest.raises(IndexCorrupt, match="CURRENT names a generation that is missing"):
        Snapshot.open(index_dir)


def test_a_pointer_with_another_model_is_corrupt(index_dir: Path) -> None:
    Pointer(FORMAT, "artifact", "other", 1).save(index_dir / "CURRENT")
    with pytest.raises(IndexCorrupt, match="CURRENT names the artifact"):
        Snapshot.open(index_dir)


def test_an_opened_generation_outlives_its_directory(index_dir: Path, snapshot: Snapshot) -> None:
    directory = IndexDirectory(index_dir)
    (index_dir / "CURRENT").unlink()
    directory.discard(1)
    assert ids(snapshot, ask(snapshot)) == "abcd"
    assert snapshot.thumbnail("a") == b"webp of a"


def test_a_closed_snapshot_says_so(index_dir: Path) -> None:
    snapshot = Snapshot.open(index_dir)
    snapshot.close()
    snapshot.close()
    for _ in range(2):
        with pytest.raises(SearchError, match="is closed"):
            snapshot.item("a")


def test_threads_read_one_snapshot(snapshot: Snapshot) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                assert ids(snapshot, ask(snapshot, filter=snapshot.filter({"labels": "cat"}))) == "ab"
                assert snapshot.thumbnail("a") == b"webp of a"
        except BaseException as error:  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_verification_reports_what_it_looked_at(index_dir: Path) -> None:
    report = verify_index(index_dir)
    assert (report.index, report.generation, report.items, report.files) == ("demo", 1, 5, 5)
    assert (report.codes, report.self_queries) == ({"image": 4, "text": 3}, 7)


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["image.codes", "image.rows", "items.sqlite", "text.codes", "text.rows"])
def test_an_altered_file_is_found_by_its_checksum(index_dir: Path, name: str) -> None:
    damage(index_dir / "generation-000001" / name, lambda data: bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(IndexCorrupt, match=f"{name} does not match its checksum"):
        Snapshot.open(index_dir)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["image.codes", "image.rows", "items.sqlite", "text.codes", "text.rows"])
def test_a_truncated_file_is_found_without_reading_it(index_dir: Path, name: str, verify: bool) -> None:
    damage(index_dir / "generation-000001" / name, lambda data: data[:-1])
    with pytest.raises(IndexCorrupt, match=rf"{name}: expected [\d,]+ bytes, found"):
        Snapshot.open(index_dir, verify=verify)


@pytest.mark.parametrize("name", ["image.codes", "items.sqlite", "manifest.json"])
def test_a_missing_file_is_named(index_dir: Path, name: str) -> None:
    (index_dir / "generation-000001" / name).unlink()
    with pytest.raises(IndexCorrupt, match=name):
        Snapshot.open(index_dir, verify=False)


def test_swapped_files_are_found(index_dir: Path, items: list[IndexedItem], make_spec: Any) -> None:  # noqa: ANN401 - a maker of specs
    write_generation(index_dir, make_spec(), items[::-1])
    first, second = (index_dir / f"generation-00000{number}" / "manifest.json" for number in (1, 2))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    with pytest.raises(IndexCorrupt, match=r"manifest\.json: expected generation 1, found 2"):
        Snapshot.open(index_dir)


def test_an_altered_database_that_passes_by_size_is_named_when_it_is_read(index_dir: Path) -> None:
    damage(index_dir / "generation-000001" / "items.sqlite", lambda data: b"x" * len(data))
    with Snapshot.open(index_dir, verify=False) as snapshot, pytest.raises(IndexCorrupt, match=r"items\.sqlite"):
        snapshot.item("a")
