"""The overlap of mixed items against a literal reference, item by item."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.methods.crossbit import Mix


@settings(max_examples=30)
@given(st.integers(1, 7), st.floats(0.05, 3), st.integers(0, 10_000))
def test_the_overlap_of_mixed_items_is_the_mean_over_what_they_are_made_of(items: int, shape: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mix = Mix.draw(items, shape, generator)
    overlap, inputs = torch.rand(items, items, generator=generator), torch.randn(items, 3, generator=generator)
    made_of = [
        [(float(mix.own[row]), row), (1 - float(mix.own[row]), int(mix.other[row]))] for row in range(items)
    ]  # weight, item
    found, mixed = mix.overlap(overlap), mix(inputs)
    for i in range(items):
        for column in range(3):
            expected = sum(weight * float(inputs[item, column]) for weight, item in made_of[i])
            assert mixed[i, column].item() == pytest.approx(expected, abs=1e-5)
        for j in range(items):
            expected = sum(a * b * float(overlap[p, q]) for a, p in made_of[i] for b, q in made_of[j])
            assert found[i, j].item() == pytest.approx(expected, abs=1e-5)
