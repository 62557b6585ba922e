import numpy as np
import pytest

from index.codes import check_bits, distances, from_hex, pack, to_hex, unpack
from index.errors import InvalidQuery


def test_bit_j_is_stored_in_byte_j_over_8_at_position_j_mod_8() -> None:
    bits = np.zeros((1, 16), dtype=np.bool_)
    bits[0, 9] = True
    assert pack(bits).tolist() == [[0, 2]]


def test_hex_is_lower_case_in_byte_order() -> None:
    assert to_hex(np.array([0xAB, 0x01], dtype=np.uint8)) == "ab01"


def test_upper_case_hex_is_read() -> None:
    assert from_hex("AB01", 16).tolist() == [0xAB, 0x01]


@pytest.mark.parametrize("text", ["", "ab", "ab01ff", "xy01", "ab 1", " ab0", "ab0\u0661"])
def test_text_that_is_not_a_code_of_this_length_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="expected a code of 16 bits as 4 hex digits"):
        from_hex(text, 16)


@pytest.mark.parametrize("bits", [0, -8, 7, 12, 4104])
def test_a_length_that_codes_cannot_have_is_refused(bits: int) -> None:
    with pytest.raises(InvalidQuery, match=f"found {bits}"):
        check_bits(bits)


def test_unpacking_codes_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="expected codes of 16 bits, found 8"):
        unpack(np.zeros((1, 1), dtype=np.uint8), 16)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 8, 12, 16, 64])
def test_distance_to_the_complement_is_the_code_length(width: int) -> None:
    codes = np.full((2, width), 255, dtype=np.uint8)
    codes[1] = 0
    assert distances(np.zeros(width, dtype=np.uint8), codes).tolist() == [8 * width, 0]


def test_a_query_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="expected a query of 16 bits, found 8"):
        distances(np.zeros(1, dtype=np.uint8), np.zeros((3, 2), dtype=np.uint8))


def test_codes_that_are_a_slice_of_wider_ones_are_measured_alike() -> None:
    wide = np.arange(64, dtype=np.uint8).reshape(4, 16)
    assert distances(wide[0, :8], wide[:, :8]).tolist() == distances(wide[0, :8].copy(), wide[:, :8].copy()).tolist()
