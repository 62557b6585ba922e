"""Code banks: what is stored, what is drawn, and the terms against them, each in a literal loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.banks import CodeBanks, Likelihood

ROWS, LENGTHS = 6, (8, 16)
ALL = Likelihood(rows=100, logit_range=4, max_positive_weight=8)


def codes(count: int, seed: int = 0) -> dict[int, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        bits: (
            torch.randn(count, bits, generator=generator).tanh(),
            torch.randn(count, bits, generator=generator).tanh(),
        )
        for bits in LENGTHS
    }


def filled(seed: int = 9) -> CodeBanks:
    banks = CodeBanks(ROWS, LENGTHS)
    banks.write(slice(None), codes(ROWS, seed))
    return banks


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def softplus_loss(bank: Tensor, side: Tensor, similar: list[list[bool]]) -> float:
    """Section 3.1 with the weights and the scale of ``losses.bank_likelihood``."""
    pairs = [
        (ALL.logit_range * float(bank[n] @ side[j]) / len(side[j]), similar[n][j])
        for n in range(len(bank))
        for j in range(len(side))
    ]
    share = sum(alike for _, alike in pairs) / len(pairs)
    weight = min((1 - share) / share, ALL.max_positive_weight)
    total = sum((weight if alike else 1) * (math.log1p(math.exp(t)) - alike * t) for t, alike in pairs)
    return total / sum(weight if alike else 1 for _, alike in pairs)


def test_a_new_bank_is_zero_and_has_a_row_for_every_training_row() -> None:
    for bits in LENGTHS:
        for bank in CodeBanks(ROWS, LENGTHS).of(bits):
            assert bank.shape == (ROWS, bits)
            assert not bank.any()


def test_written_rows_are_read_again_and_the_others_stay() -> None:
    banks, fresh = filled(), codes(2)
    before = {bits: [bank.clone() for bank in banks.of(bits)] for bits in LENGTHS}
    banks.write(torch.tensor([4, 1]), fresh)
    for bits in LENGTHS:
        for bank, old, side in zip(banks.of(bits), before[bits], fresh[bits], strict=True):
            assert torch.equal(bank[[4, 1]], side)
            assert torch.equal(bank[[0, 2, 3, 5]], old[[0, 2, 3, 5]])


def test_what_is_written_carries_no_gradient() -> None:
    banks = CodeBanks(ROWS, LENGTHS)
    banks.write(torch.arange(2), {8: (torch.ones(2, 8, requires_grad=True), torch.ones(2, 8, requires_grad=True))})
    assert not any(bank.requires_grad for bank in banks.of(8))
    assert list(banks.parameters()) == []


def test_banks_are_part_of_what_a_checkpoint_holds() -> None:
    banks, other = filled(), CodeBanks(ROWS, LENGTHS)
    other.load_state_dict(banks.state_dict())
    assert all(
        torch.equal(one, two) for bits in LENGTHS for one, two in zip(banks.of(bits), other.of(bits), strict=True)
    )


def test_signs_are_those_of_the_sum_of_both_modalities_and_zero_is_minus_one() -> None:
    banks = CodeBanks(1, (8,))
    image, text = torch.tensor([[1.0, 1, -1, -1, 0, 0.2, -0.2, 0.5]]), torch.tensor([[1.0, -2, 2, -1, 0, 0, 0, -0.5]])
    banks.write(slice(None), {8: (image, text)})
    assert banks.signs(torch.tensor([0]), 8).tolist() == [[1, -1, 1, -1, -1, 1, -1, -1]]


def test_quantisation_is_the_distance_of_both_modalities_to_their_signs() -> None:
    banks, fresh, rows = filled(), codes(3), torch.tensor([5, 0, 2])
    total = 0.0
    for bits, (image, text) in fresh.items():
        images, texts = banks.of(bits)
        target = (images + texts)[rows].sign()
        total += float(((image - target) ** 2).sum() + ((text - target) ** 2).sum()) / (3 * bits)  # section 3.2
    assert banks.quantisation(rows, fresh).item() == pytest.approx(total / len(LENGTHS))


def test_quantisation_is_zero_for_codes_that_are_signs() -> None:
    banks = CodeBanks(2, (8,))
    signs = torch.tensor([[1.0, -1] * 4, [-1.0, 1] * 4])
    banks.write(slice(None), {8: (signs, signs)})
    assert banks.quantisation(torch.arange(2), {8: (signs, signs)}) == 0


def test_the_likelihood_is_that_of_a_literal_loop() -> None:
    banks, fresh, rows = filled(), codes(2), torch.tensor([3, 1])
    labels = torch.eye(3)[[0, 0, 1, 1, 2, 0]]
    found = banks.likelihood(rows, fresh, labels, drawing(), ALL)
    assert found is not None
    similar = [[bool(labels[n] @ labels[j]) for j in rows] for n in range(ROWS)]
    across, within = [], []
    for bits, (image, text) in fresh.items():
        images, texts = banks.of(bits)
        across += [softplus_loss(images, text, similar), softplus_loss(texts, image, similar)]
        within += [softplus_loss(images, image, similar), softplus_loss(texts, text, similar)]
    assert found[0].item() == pytest.approx(sum(across) / len(across), rel=1e-5)
    assert found[1].item() == pytest.approx(sum(within) / len(within), rel=1e-5)


@given(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), st.integers(1, 10))
def test_unlabelled_rows_take_no_part(known: list[bool], sampled: int) -> None:
    labels = torch.eye(2)[[0, 1, 0, 1, 0, 1]] * torch.tensor(known)[:, None]
    rows, how = torch.tensor([0, 1, 2]), Likelihood(sampled, 4, 8)
    banks, fresh = filled(), codes(3)
    found = banks.likelihood(rows, fresh, labels, drawing(), how)
    if not any(known[:3]):
        assert found is None
        return
    assert found is not None
    for bits in LENGTHS:
        for bank in banks.of(bits):
            bank[~torch.tensor(known)] = float("nan")
        for side in fresh[bits]:
            side[~torch.tensor(known[:3])] = float("nan")
    again = banks.likelihood(rows, fresh, labels, drawing(), how)
    assert again is not None
    assert [term.item() for term in again] == [term.item() for term in found]


def test_without_a_label_in_the_batch_there_is_no_likelihood() -> None:
    labels = torch.zeros(ROWS, 2)
    assert filled().likelihood(torch.tensor([0, 1]), codes(2), labels, drawing(), ALL) is None
    labels[5, 0] = 1
    assert filled().likelihood(torch.tensor([0, 1]), codes(2), labels, drawing(), ALL) is None
    assert filled().likelihood(torch.tensor([0, 5]), codes(2), labels, drawing(), ALL) is not None


def test_the_sample_is_drawn_by_the_generator() -> None:
    labels, how = torch.eye(2)[[0, 1, 0, 1, 0, 1]], Likelihood(2, 4, 8)

    def drawn(seed: int) -> float:
        found = filled().likelihood(torch.tensor([0, 1]), codes(2), labels, drawing(seed), how)
        assert found is not None
        return found[0].item()

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(8)}) > 1


def test_gradients_reach_the_fresh_codes_of_labelled_rows_alone() -> None:
    labels = torch.eye(2)[[0, 1, 0, 1, 0, 1]]
    labels[1] = 0
    leaves = [torch.randn(2, 8, requires_grad=True) for _ in range(2)]
    banks = filled()
    found = banks.likelihood(torch.tensor([0, 1]), {8: (leaves[0].tanh(), leaves[1].tanh())}, labels, drawing(), ALL)
    assert found is not None
    (found[0] + found[1]).backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad[0].abs().max() > 0
        assert leaf.grad[1].abs().max() == 0
