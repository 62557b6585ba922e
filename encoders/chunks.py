"""How a text of any length enters a tower: in chunks of the tower's context, or its head alone (``NAME@head``).

The features of a text are the mean of those of its chunks; how many there may be is part of a backbone's fingerprint.
"""

from collections.abc import Sequence

from encoders.names import HEAD
from encoders.protocol import TokenChunks

MAX_CHUNKS = 8  # a longer text keeps its first 8 chunks


def split_name(name: str) -> tuple[str, int]:
    """The name of the towers, and the most chunks of one text that they read."""
    base = name.removesuffix(HEAD)
    return base, MAX_CHUNKS if base == name else 1


def cut(ids: Sequence[int], first: int, last: int, *, context: int, max_chunks: int) -> TokenChunks:
    """Token ids without special ones -> chunks of at most ``context`` ids, each between its own first and last."""
    step = context - 2
    pieces = [ids[start : start + step] for start in range(0, max(1, len(ids)), step)]
    chunks = tuple((first, *piece, last) for piece in pieces[:max_chunks])
    return TokenChunks(chunks, truncated=max(0, len(ids) - step * max_chunks))
