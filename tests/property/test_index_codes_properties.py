import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from index.codes import distances, from_hex, pack, to_hex, unpack

widths = st.one_of(st.integers(1, 16), st.integers(17, 64))


@st.composite
def code_pairs(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A query and some codes of one length."""
    width, count = draw(widths), draw(st.integers(0, 12))
    return draw(arrays(np.uint8, width)), draw(arrays(np.uint8, (count, width)))


@settings(deadline=None)
@given(st.tuples(st.integers(0, 9), widths).flatmap(lambda shape: arrays(np.bool_, (shape[0], shape[1] * 8))))
def test_unpacking_gives_back_what_was_packed(bits: NDArray[np.bool_]) -> None:
    assert np.array_equal(unpack(pack(bits), bits.shape[1]), bits)


@settings(deadline=None)
@given(widths.flatmap(lambda width: arrays(np.uint8, width)))
def test_hex_gives_back_the_code(code: NDArray[np.uint8]) -> None:
    assert np.array_equal(from_hex(to_hex(code), len(code) * 8), code)


@settings(deadline=None)
@given(code_pairs())
def test_distance_is_the_number_of_bits_that_differ(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    query, codes = pair
    expected = [sum((int(a) ^ int(b)).bit_count() for a, b in zip(query, code, strict=True)) for code in codes]
    assert distances(query, codes).tolist() == expected


@settings(deadline=None)
@given(code_pairs(), st.binary(min_size=64, max_size=64))
def test_a_mask_on_both_sides_changes_no_distance(
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]], mask: bytes
) -> None:
    query, codes = pair
    flip = np.frombuffer(mask, dtype=np.uint8)[: len(query)]
    assert np.array_equal(distances(query, codes), distances(query ^ flip, codes ^ flip))
