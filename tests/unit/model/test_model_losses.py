"""Shared loss terms, each against its definition."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from model.losses import (
    THETA_LIMIT,
    WeightedPairs,
    agreement,
    bank_likelihood,
    info_nce,
    pair_likelihood,
    quantisation,
    share_label,
    stored_likelihood,
    theta_scale,
)


def pairs(similar: Tensor, most: float = 8) -> WeightedPairs:
    return WeightedPairs.of(similar, least=0, most=most)


def test_share_label_needs_one_common_class() -> None:
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert share_label(labels, labels).tolist() == [[True, False, False], [False, True, False], [False, False, False]]


def test_likelihood_is_low_where_codes_agree_with_relevance() -> None:
    bank = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    similar = torch.tensor([[True], [False]])
    right = bank_likelihood(bank, bank[:1], pairs(similar), logit_range=16)
    wrong = bank_likelihood(bank, bank[1:], pairs(similar), logit_range=16)
    assert right < 1e-4
    assert wrong > 10


def test_likelihood_matches_its_formula() -> None:
    bank, codes = torch.tensor([[0.5, -0.5], [1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.2, 0.4]])
    similar = torch.tensor([[True], [False], [False]])
    logits = 4 * torch.tensor([0.5 * 0.2 - 0.5 * 0.4, 0.6, 0.4]) / 2
    losses = torch.log1p(logits.exp()) - similar[:, 0] * logits
    weights = torch.tensor([2.0, 1, 1])  # two dissimilar pairs for one similar
    expected = (weights * losses).sum() / 4
    assert bank_likelihood(bank, codes, pairs(similar), logit_range=4) == pytest.approx(expected.item())


def test_likelihood_sends_no_gradient_into_the_bank() -> None:
    bank, codes = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    bank_likelihood(bank, codes, pairs(torch.ones(3, 2, dtype=torch.bool)), logit_range=16).backward()
    assert bank.grad is None
    assert codes.grad is not None


@pytest.mark.parametrize("similar", [True, False])
def test_likelihood_is_finite_when_all_pairs_are_of_one_kind(similar: bool) -> None:
    relevance = pairs(torch.full((3, 2), similar))
    assert bank_likelihood(torch.randn(3, 4), torch.randn(2, 4), relevance, logit_range=16).isfinite()


def random_codes(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("most", [1.0, 8.0])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_likelihood_and_its_gradient_are_those_that_autograd_makes_of_the_formula(share: float, most: float) -> None:
    bank, codes = random_codes(40, 16, seed=0), random_codes(12, 16, seed=1).requires_grad_()
    similar = random_codes(40, 12, seed=2).sigmoid() < share
    ratio = min((~similar).sum().item() / similar.sum().item(), most)
    weights = torch.where(similar, ratio, 1.0)
    logits = 16 * bank @ codes.T / 16
    literal = (weights * (softplus(logits, threshold=1000) - similar * logits)).sum() / weights.sum()
    (expected,) = torch.autograd.grad(literal, codes)
    given = WeightedPairs.of(similar, least=0, most=most)
    doubled = WeightedPairs(*(value.double() for value in (given.weights, given.toward, given.away, given.total)))
    found = bank_likelihood(bank, codes, doubled, logit_range=16)
    (gradient,) = torch.autograd.grad(3 * found, codes)
    assert found.item() == pytest.approx(literal.item(), rel=1e-6)
    assert torch.allclose(gradient, 3 * expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("theta", ["half", "len"])
def test_stored_likelihood_is_the_pair_likelihood_of_clamped_agreement(theta: str) -> None:
    stored = 6 * torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    codes = (6 * torch.randn(8, 16, generator=torch.Generator().manual_seed(1))).requires_grad_()
    similar = (torch.rand(30, 8, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    logits = agreement(stored, codes, theta)
    assert (logits.abs() == THETA_LIMIT).any()  # some pairs have no gradient
    literal = pair_likelihood(logits, similar, max_weight=8)
    (expected,) = torch.autograd.grad(literal, codes)
    given = WeightedPairs.of(similar, least=1, most=8)
    found = stored_likelihood(stored, codes, given, scale=theta_scale(theta, 16), limit=THETA_LIMIT)
    (gradient,) = torch.autograd.grad(found, codes)
    assert found.item() == pytest.approx(literal.item(), rel=1e-5)
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_likelihood_of_absurdly_large_logits_is_finite_and_pulls_back() -> None:
    codes = torch.ones(1, 4, requires_grad=True)
    found = bank_likelihood(torch.ones(1, 4), codes, pairs(torch.tensor([[False]])), logit_range=1000)
    found.backward()
    assert found > 80
    assert codes.grad is not None
    assert torch.allclose(codes.grad, torch.full((1, 4), 250.0))


def test_quantisation_is_zero_at_the_targets() -> None:
    targets = torch.tensor([[1.0, -1.0]])
    assert quantisation(targets, targets) == 0
    assert quantisation(torch.zeros(1, 2), targets) == 1


def test_info_nce_is_lowest_for_matching_rows() -> None:
    rows = torch.eye(4)
    assert info_nce(rows, rows, 0.07) < 1e-4
    assert info_nce(rows, rows.roll(1, 0), 0.07) > 10


def test_info_nce_of_identical_rows_is_the_logarithm_of_their_number() -> None:
    assert info_nce(torch.ones(8, 3), torch.ones(8, 3), 0.07).item() == pytest.approx(torch.tensor(8.0).log().item())
