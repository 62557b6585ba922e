"""Forwards of other sizes stand in for the canonical one only where they give its bits."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from encoders.forward import Forward, forward_chunk

CPU = torch.device("cpu")


class Tower:
    """Rows of ``inputs + drift(number of rows)``; remembers the sizes that it saw."""

    def __init__(self, drift: Callable[[int], float] = lambda rows: 0.0, limit: int = 100) -> None:
        self.sizes: list[int] = []
        self._drift = drift
        self.limit = limit

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("no room")
        return inputs.float() + self._drift(len(inputs))


def together(parts: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts))


def test_a_short_chunk_is_padded_and_the_padding_dropped() -> None:
    tower = Tower()
    assert forward_chunk(tower, torch.ones(3, 2), 8, CPU).tolist() == [[1, 1]] * 3
    assert tower.sizes == [8]


def test_a_larger_size_that_gives_the_same_bits_is_used_from_then_on() -> None:
    tower, inputs = Tower(), torch.arange(1.0, 23).reshape(11, 2)
    forward = Forward(tower, CPU, 1, (4,))
    assert np.array_equal(together(forward(inputs)), inputs)
    assert tower.sizes == [4, 1, 1, 1, 1, 4, 4]
    tower.sizes.clear()
    together(forward(inputs))
    assert tower.sizes == [4, 4, 4]


def test_a_larger_size_is_not_used_for_few_inputs() -> None:
    tower = Tower()
    forward = Forward(tower, CPU, 1, (8,))
    for count, sizes in ((5, [8, 1, 1, 1, 1, 1]), (4, [1] * 4), (6, [8])):
        tower.sizes.clear()
        assert np.array_equal(together(forward(torch.ones(count, 2))), np.ones((count, 2)))
        assert tower.sizes == sizes


def test_a_size_is_proven_by_its_padding_too() -> None:
    class LastRowDrifts(Tower):
        def __call__(self, inputs: Tensor) -> Tensor:
            rows = super().__call__(inputs)
            return rows if len(inputs) == 1 else rows + torch.tensor([[0.0]] * (len(inputs) - 1) + [[0.5]])

    tower = LastRowDrifts()
    forward = Forward(tower, CPU, 1, (4,))
    for count in (3, 4):
        assert np.array_equal(together(forward(torch.ones(count, 2))), np.ones((count, 2)))
    assert tower.sizes == [4, *[1] * 7]


def test_a_larger_size_that_rounds_otherwise_is_never_seen_and_not_used_again() -> None:
    tower, inputs = Tower(lambda rows: 1e-6 * (rows > 1)), torch.ones(9, 2)
    forward = Forward(tower, CPU, 1, (4,))
    assert np.array_equal(together(forward(inputs)), inputs)
    assert tower.sizes == [4, *[1] * 9]


def test_padded_texts_prove_nothing_for_full_ones() -> None:
    tower = Tower()
    forward = Forward(tower, CPU, 1, (2,))
    together(forward(torch.tensor([[5, 0], [6, 0]])))
    together(forward(torch.tensor([[5, 7], [6, 7]])))
    assert tower.sizes == [2, 1, 1] * 2


@given(st.integers(0, 40), st.sampled_from([(), (4,), (16, 4), (16, 5, 2)]), st.sampled_from([1, 3]))
def test_every_row_is_that_of_the_canonical_forward(count: int, sizes: tuple[int, ...], chunk: int) -> None:
    tower, inputs = Tower(lambda rows: 0.5 * (rows in (5, 16))), torch.arange(1.0, 1 + 2 * count).reshape(count, 2)
    forward = Forward(tower, CPU, chunk, sizes)
    for _ in range(2):
        parts = [np.empty((0, 2)), *forward(inputs)]
        assert np.array_equal(np.concatenate(parts), inputs)


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    calls: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(True))
    return calls


def test_a_full_device_is_answered_with_smaller_forwards_of_the_same_bits(emptied: list[bool]) -> None:
    tower, inputs = Tower(), torch.ones(8, 2)
    forward = Forward(tower, CPU, 8, (4, 2))
    together(forward(inputs))
    tower.limit = 3
    tower.sizes.clear()
    assert np.array_equal(together(forward(inputs)), inputs)
    assert tower.sizes == [8, 4, 2, 2, 2, 2]
    assert emptied == [True, True]


def test_no_other_bits_come_out_of_a_full_device(emptied: list[bool]) -> None:
    tower = Tower(lambda rows: 0.5 * (rows < 8))
    forward = Forward(tower, CPU, 8, (4,))
    together(forward(torch.ones(8, 2)))
    tower.limit = 4
    with pytest.raises(torch.OutOfMemoryError):
        together(forward(torch.ones(8, 2)))
    assert emptied == [True]
