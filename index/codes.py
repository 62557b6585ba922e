"""Packed codes: bit j of a code is stored in byte j // 8 at position j % 8 (little)."""

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidQuery

MAX_BITS = 4096


def check_bits(bits: int) -> int:
    """Return the code length if it is one that codes can have.

    Raises:
        InvalidQuery: not a multiple of 8 between 8 and ``MAX_BITS``.
    """
    if bits % 8 or not 8 <= bits <= MAX_BITS:
        raise InvalidQuery(f"expected a code length that is a multiple of 8 between 8 and {MAX_BITS}, found {bits}")
    return bits


def pack(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack (N, bits) booleans into (N, bits / 8) bytes."""
    check_bits(bits.shape[1])
    return np.packbits(bits, axis=1, bitorder="little")


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.bool_]:
    """Unpack (N, bits / 8) bytes into (N, bits) booleans."""
    if codes.shape[1] * 8 != check_bits(bits):
        raise InvalidQuery(f"expected codes of {bits} bits, found {codes.shape[1] * 8}")
    return np.unpackbits(codes, axis=1, bitorder="little").view(np.bool_)


def to_hex(code: NDArray[np.uint8]) -> str:
    """Lower-case hex of one packed code, in byte order."""
    return code.tobytes().hex()


def from_hex(text: str, bits: int) -> NDArray[np.uint8]:
    """The packed code that ``to_hex`` wrote; upper case is accepted, blanks are not.

    Raises:
        InvalidQuery: not hex, or not of ``bits`` bits.
    """
    expected = f"expected a code of {bits} bits as {bits // 4} hex digits"
    if len(text) * 4 != bits:
        raise InvalidQuery(f"{expected}, found {len(text)} characters")
    if not (text.isascii() and text.isalnum()):
        raise InvalidQuery(f"{expected}, found {text!r}")
    try:
        return np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    except ValueError as error:
        raise InvalidQuery(f"{expected}, found {text!r}") from error


def distances(query: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Hamming distances of one (bits / 8,) query to (N, bits / 8) codes: the definition for every engine."""
    if len(query) != codes.shape[1]:
        raise InvalidQuery(f"expected a query of {codes.shape[1] * 8} bits, found {len(query) * 8}")
    total = np.zeros(len(codes), dtype=np.int32)
    for query_word, words in zip(words_of(query[np.newaxis]).T, words_of(codes).T, strict=True):
        total += np.bitwise_count(words ^ query_word)
    return total


def words_of(codes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """The same bytes as the widest machine words that divide a code; counting bits does not care about their order."""
    width = codes.shape[1]
    word = next(size for size in (8, 4, 2, 1) if width % size == 0)
    return np.ascontiguousarray(codes).view(np.dtype(f"u{word}"))
