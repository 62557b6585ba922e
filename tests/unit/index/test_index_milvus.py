"""Generations in a real Milvus server; that the engine answers as the others do is in the tests of engines."""

import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient, MilvusException

from index.editing import NewItem, editing
from index.errors import EngineUnavailable, IndexCorrupt, IndexNotFound
from index.generations import IndexDirectory
from index.milvus import server as server_module
from index.milvus.engine import TOP
from index.milvus.server import MilvusOptions, MilvusServer
from index.search import NumpyEngine, SearchEngine
from index.snapshot import Snapshot
from index.transfer import checksum, checksums
from index.writer import GenerationSpec, IndexedItem, write_generation

pytestmark = pytest.mark.milvus

SpecMaker = Callable[..., GenerationSpec]

MANY = 40_000


def fresh_prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def server(milvus_url: str) -> MilvusServer:
    return MilvusServer(MilvusOptions(milvus_url, prefix=fresh_prefix(), lists=16))


@pytest.fixture(scope="module")
def many() -> NDArray[np.uint8]:
    """Codes of few bits, most of them equal to several others, and one bucket that no single answer holds."""
    codes = np.random.default_rng(0).integers(0, 8, (MANY, 4), dtype=np.uint8)
    codes[1000 : 1000 + TOP + 2000] = codes[0]
    return codes


@pytest.fixture(scope="module")
def many_dir(many: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("indexes") / "many-codes"
    items = (IndexedItem(f"é{n:06d}", f"{n}", None, {}, None, {"image": many[n : n + 1]}) for n in range(MANY))
    write_generation(path, GenerationSpec("many-codes", 32, "artifact", "fingerprint", "cpu", "source", "first"), items)
    IndexDirectory(path).activate(1)
    return path


@pytest.fixture(scope="module", params=["BIN_FLAT", "BIN_IVF_FLAT"])
def engine(request: pytest.FixtureRequest, milvus_url: str, many_dir: Path) -> Iterator[SearchEngine]:
    options = MilvusOptions(milvus_url, prefix=fresh_prefix(), index=request.param, lists=16)
    with Snapshot.open(many_dir, engine=MilvusServer(options)) as snapshot:
        yield snapshot.written.columns["image"].warm()


@pytest.mark.parametrize("share", [None, 0.001, 0.3, 0.999])
@pytest.mark.parametrize("k", [1, 100, 5000])
def test_an_indexed_collection_answers_as_the_definition(
    engine: SearchEngine, many: NDArray[np.uint8], share: float | None, k: int
) -> None:
    generator = np.random.default_rng(k)
    queries = np.concatenate((generator.integers(0, 8, (3, 4), dtype=np.uint8), many[:1]))
    rows = None if share is None else generator.random(MANY) < share
    reference = NumpyEngine(many)
    pairs = [(engine.knn(queries, k, rows=rows), reference.knn(queries, k, rows=rows))]
    for radius in (0, 3):
        found = engine.within(queries, radius, limit=k, rows=rows)
        pairs.append((found, reference.within(queries, radius, limit=k, rows=rows)))
    for found, expected in pairs:
        for name in ("offsets", "rows", "distances", "totals", "histogram"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_more_hits_than_one_answer_holds_come_in_order(engine: SearchEngine, many: NDArray[np.uint8]) -> None:
    found, expected = engine.knn(many[:1], TOP + 5000), NumpyEngine(many).knn(many[:1], TOP + 5000)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.histogram, expected.histogram)


def test_an_index_with_several_codes_an_item_and_edits_answers_as_embedded(
    index_dir: Path, items: list[IndexedItem], server: MilvusServer
) -> None:
    with editing(index_dir) as editor:
        editor.delete(["b"])
        editor.append([NewItem(items[1], None, {})], fingerprint="fingerprint")
    with Snapshot.open(index_dir, engine=server) as far, Snapshot.open(index_dir) as near:
        for column in ("image", "text"):
            for radius in (None, 2):
                query = np.zeros((1, 2), dtype=np.uint8)
                asked: dict[str, Any] = {"k": None, "radius": radius, "limit": 9, "fingerprint": None}
                one, other = (snapshot.search(column, query, **asked)[0] for snapshot in (far, near))
                assert one.hits == other.hits
                assert one.total == other.total


def test_a_column_without_codes_has_an_empty_collection(
    tmp_path: Path, server: MilvusServer, items: list[IndexedItem], make_spec: SpecMaker
) -> None:
    write_generation(tmp_path / "demo", make_spec(columns=("pair",)), items)
    with Snapshot.open(tmp_path / "demo", 1, engine=server) as snapshot:
        hits = snapshot.written.columns["pair"].warm().knn(np.zeros((1, 2), dtype=np.uint8), 3)
        assert hits.rows.tolist() == []


def test_what_is_there_is_not_taken_over_again(
    index_dir: Path, server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Snapshot.open(index_dir, engine=server) as snapshot:
        snapshot.warm()
        name = server.collection_name(snapshot.written, "image")
        monkeypatch.setattr(server_module, "_batches", None)  # nothing is sent any more
        assert server.publish(snapshot.written, "image") == name


def test_the_alias_tells_the_columns_and_reads_them_back(index_dir: Path, server: MilvusServer) -> None:
    with Snapshot.open(index_dir, engine=server) as snapshot:
        snapshot.warm()
        server.activate(snapshot.written, kept=[1])
        expected = checksums(snapshot.written)
    assert {name: column.checksum for name, column in server.current("demo").items()} == expected
    assert checksum(server.read("demo", "text")) == expected["text"]


def test_without_an_alias_there_is_no_index(server: MilvusServer) -> None:
    with pytest.raises(IndexNotFound, match="export it first"):
        server.current("demo")


def test_activating_drops_the_collections_of_generations_that_are_gone(
    index_dir: Path, server: MilvusServer, milvus_url: str, items: list[IndexedItem], make_spec: SpecMaker
) -> None:
    write_generation(index_dir, make_spec(), items[:4])
    for number in (1, 2):
        with Snapshot.open(index_dir, number, engine=server) as snapshot:
            snapshot.warm()
            server.activate(snapshot.written, kept=[number])
    names = [name for name in MilvusClient(milvus_url).list_collections() if name.startswith(server.options.prefix)]
    assert names
    assert all("_000002_" in name for name in names)


def test_a_copy_that_reads_back_otherwise_is_dropped(
    index_dir: Path, server: MilvusServer, milvus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = server_module._batches

    def damaged(pairs: Iterator[tuple[str, bytes]]) -> Iterator[list[dict[str, object]]]:
        for batch in batches(pairs):
            batch[-1]["code"] = b"\xff\x00"
            yield batch

    monkeypatch.setattr(server_module, "_batches", damaged)
    with Snapshot.open(index_dir, engine=server) as snapshot, pytest.raises(IndexCorrupt, match="read back"):
        snapshot.warm()
    names = MilvusClient(milvus_url).list_collections()
    assert not [name for name in names if name.startswith(server.options.prefix)]


def test_a_server_that_is_full_is_given_time(
    index_dir: Path, server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, refusals = MilvusClient.insert, [MilvusException(9, "quota exceeded")] * 2

    def full_at_first(self: MilvusClient, *args: object, **options: object) -> object:
        if refusals:
            raise refusals.pop()
        return insert(self, *args, **options)

    monkeypatch.setattr(MilvusClient, "insert", full_at_first)
    monkeypatch.setattr(MilvusClient, "upsert", full_at_first)
    monkeypatch.setattr(server_module, "PAUSES_S", (0.01, 0.02))
    with Snapshot.open(index_dir, engine=server) as snapshot:
        snapshot.warm()
        assert server.publish(snapshot.written, "image")
    assert refusals == []


def test_of_two_that_take_over_the_same_column_one_wins(index_dir: Path, server: MilvusServer, milvus_url: str) -> None:
    def take_over() -> None:
        with Snapshot.open(index_dir, engine=server) as snapshot:
            snapshot.written.columns["image"].warm()

    threads = [threading.Thread(target=take_over) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = MilvusClient(milvus_url).list_collections()
    assert len([name for name in names if name.startswith(server.options.prefix)]) == 1


def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(EngineUnavailable, match=f"expected Milvus at {url}"):
            MilvusServer(MilvusOptions(url, timeout_s=0.5)).current("demo")
