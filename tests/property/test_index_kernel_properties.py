"""The kernel at every level of instructions, width and strategy, against the reference engine in every array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import compiled
from numpy.typing import NDArray

from index.kernel.library import Level
from index.search import Hits, NumpyEngine
from index.search import structures as structures_module
from index.search.kernel_engine import KernelEngine
from index.search.protocol import Strategy
from index.search.structures import prepare

KINDS = ("random", "repeated", "close", "identical")
LEVELS = pytest.mark.parametrize("level", compiled().levels())


def make_codes(generator: np.random.Generator, kind: str, count: int, width: int) -> NDArray[np.uint8]:
    codes = generator.integers(0, 256, (count, width), dtype=np.uint8)
    match kind:
        case "repeated":
            return codes[generator.integers(0, max(1, count // 8), count)]
        case "close":
            flips = np.zeros((count, 8 * width), dtype=np.bool_)
            flips[np.arange(count), generator.integers(0, 8 * width, count)] = True
            codes[:] = codes[:1]
            return codes ^ np.packbits(flips, axis=1, bitorder="little")
        case "identical":
            codes[:] = codes[:1]
    return codes


def assert_equal(one: Hits, other: Hits) -> None:
    for name in ("offsets", "rows", "distances", "totals", "histogram"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        assert np.array_equal(left, right), name


@LEVELS
@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    width=st.integers(1, 64),
    kind=st.sampled_from(KINDS),
    share=st.sampled_from([None, 0.0, 0.1, 0.7]),
    data=st.data(),
)
def test_every_width_level_and_kind_of_data(
    level: Level, seed: int, width: int, kind: str, share: float | None, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    count = data.draw(st.integers(1, 300))
    codes = make_codes(generator, kind, count, width)
    queries = np.concatenate([generator.integers(0, 256, (3, width), dtype=np.uint8), codes[:40]])
    queries[-1, 0] ^= 1
    mask = None if share is None else generator.random(count) < share
    k = data.draw(st.sampled_from([1, 3, 100, count + 1]))
    radius = data.draw(st.integers(0, 8 * width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structures_module, "LOOKED_UP_FROM", 2)  # tables for few codes too
        engine = KernelEngine(compiled(), codes, level=level)
    engine.grant(data.draw(st.sampled_from([0, 10, 10**9])))  # never, briefly or always try a lookup
    reference = NumpyEngine(codes)
    assert_equal(engine.knn(queries, k, rows=mask), reference.knn(queries, k, rows=mask))
    assert_equal(
        engine.within(queries, radius, limit=k, rows=mask), reference.within(queries, radius, limit=k, rows=mask)
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), bits=st.sampled_from([8, 16, 24, 64, 72, 128, 136]))
def test_sorting_brings_equal_codes_together_with_rows_ascending(seed: int, bits: int) -> None:
    generator = np.random.default_rng(seed)
    codes = make_codes(generator, "repeated", 200, bits // 8)
    made = prepare(compiled(), codes)
    assert made.starts is not None
    assert made.rows is not None
    for first, end in zip(made.starts[:-1].tolist(), made.starts[1:].tolist(), strict=True):
        rows = made.rows[first:end].tolist()
        assert rows == sorted(rows)
        assert rows == np.flatnonzero((codes == codes[rows[0]]).all(axis=1)).tolist()


def test_each_strategy_is_reached() -> None:
    generator = np.random.default_rng(3)
    codes = make_codes(generator, "repeated", 60_000, 8)
    engine = KernelEngine(compiled(), codes)
    engine.grant(10**9)
    near, far = codes[:1], generator.integers(0, 256, (1, 8), dtype=np.uint8)
    strategies = [engine.knn(query, 3).plan.strategies[0] for query in (near, far)]
    engine.grant(0)
    assert [*strategies, engine.knn(near, 3).plan.strategies[0]] == [
        Strategy.LOOKUP,
        Strategy.FALLBACK,
        Strategy.SCAN,
    ]
