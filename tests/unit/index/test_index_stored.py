from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels import compiled
from numpy.typing import NDArray

from index.errors import IndexCorrupt
from index.generations import IndexDirectory
from index.search import SMALL, NumpyEngine, open_engine
from index.search.stored import load_structures, save_structures
from index.search.structures import prepare
from index.snapshot import Snapshot
from index.writer import write_generation

KINDS = pytest.mark.parametrize(("high", "width"), [(2, 2), (2, 8), (256, 8), (256, 12)])


def make(high: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(width).integers(0, high, (6000, width), dtype=np.uint8)


@KINDS
def test_stored_structures_answer_like_the_reference(tmp_path: Path, high: int, width: int) -> None:
    codes = make(high, width)
    made = prepare(compiled(), codes)
    save_structures(made, tmp_path / "a.structures")
    loaded = load_structures(tmp_path / "a.structures", codes)
    assert (loaded.distinct, loaded.largest) == (made.distinct, made.largest)
    assert loaded.arrays().keys() == made.arrays().keys()
    hits = open_engine(codes, "kernel", stored=tmp_path / "a.structures").knn(codes[:9], 20)
    assert np.array_equal(hits.rows, NumpyEngine(codes).knn(codes[:9], 20).rows)


def test_structures_of_other_codes_are_refused(tmp_path: Path) -> None:
    codes = make(2, 8)
    save_structures(prepare(compiled(), codes), tmp_path / "a.structures")
    for other in (codes[:-1], codes[:, :7]):
        with pytest.raises(IndexCorrupt, match=r"a\.structures holds no search structures"):
            load_structures(tmp_path / "a.structures", np.ascontiguousarray(other))


@KINDS
def test_no_damage_leads_a_search_out_of_the_arrays(tmp_path: Path, high: int, width: int) -> None:
    codes, path = make(high, width), tmp_path / "a.structures"
    save_structures(prepare(compiled(), codes), path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole[: generator.integers(0, len(whole))] if generator.random() < 0.2 else whole)
        for place in generator.integers(0, max(1, len(damaged)), 3):
            if damaged:
                damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            engine = open_engine(codes, "kernel", stored=path)
        except IndexCorrupt:
            continue
        hits = engine.knn(codes[:3], 50)
        assert ((hits.rows >= 0) & (hits.rows < len(codes))).all()


def test_a_large_column_is_written_with_its_structures_and_opens_with_or_without_them(
    tmp_path: Path,
    make_item: Any,  # noqa: ANN401 - a maker of items
    make_spec: Any,  # noqa: ANN401 - a maker of specs
) -> None:
    number = SMALL + 50
    path = tmp_path / "demo"
    manifest = write_generation(path, make_spec(), (make_item(f"{i:06}", i % 1000) for i in range(number)))
    IndexDirectory(path).activate(1)
    column = manifest.columns["image"]
    assert (column.distinct, column.largest_bucket) == (1000, -(-number // 1000))
    query = np.array([[7, 0]], dtype=np.uint8)
    with Snapshot.open(path) as whole:
        assert "image.structures" in whole.manifest.files
        expected = ask(whole, query)
    rest = {name: entry for name, entry in manifest.files.items() if name != "image.structures"}
    (path / "generation-000001" / "image.structures").unlink()
    replace(manifest, files=rest).save(path / "generation-000001" / "manifest.json")
    with Snapshot.open(path) as older:
        assert ask(older, query) == expected == [f"{i:06}" for i in range(7, number, 1000)][:5]


def ask(snapshot: Snapshot, query: NDArray[np.uint8]) -> list[str]:
    (answer,) = snapshot.search("image", query, k=5, radius=0, limit=5, fingerprint=None)
    return [item.id for item in snapshot.items([hit.row for hit in answer.hits])]
