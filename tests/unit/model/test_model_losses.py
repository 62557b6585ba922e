"""Shared loss terms, each against its definition."""

import pytest
import torch

from model.losses import bank_likelihood, info_nce, quantisation, share_label


def test_share_label_needs_one_common_class() -> None:
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert share_label(labels, labels).tolist() == [[True, False, False], [False, True, False], [False, False, False]]


def test_likelihood_is_low_where_codes_agree_with_relevance() -> None:
    bank = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    similar = torch.tensor([[True], [False]])
    right = bank_likelihood(bank, bank[:1], similar, logit_range=16, max_weight=8)
    wrong = bank_likelihood(bank, bank[1:], similar, logit_range=16, max_weight=8)
    assert right < 1e-4
    assert wrong > 10


def test_likelihood_matches_its_formula() -> None:
    bank, codes = torch.tensor([[0.5, -0.5], [1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.2, 0.4]])
    similar = torch.tensor([[True], [False], [False]])
    logits = 4 * torch.tensor([0.5 * 0.2 - 0.5 * 0.4, 0.6, 0.4]) / 2
    losses = torch.log1p(logits.exp()) - similar[:, 0] * logits
    weights = torch.tensor([2.0, 1, 1])  # two dissimilar pairs for one similar
    expected = (weights * losses).sum() / 4
    assert bank_likelihood(bank, codes, similar, logit_range=4, max_weight=8) == pytest.approx(expected.item())


def test_likelihood_sends_no_gradient_into_the_bank() -> None:
    bank, codes = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    bank_likelihood(bank, codes, torch.ones(3, 2, dtype=torch.bool), logit_range=16, max_weight=8).backward()
    assert bank.grad is None
    assert codes.grad is not None


@pytest.mark.parametrize("similar", [True, False])
def test_likelihood_is_finite_when_all_pairs_are_of_one_kind(similar: bool) -> None:
    relevance = torch.full((3, 2), similar)
    assert bank_likelihood(torch.randn(3, 4), torch.randn(2, 4), relevance, logit_range=16, max_weight=8).isfinite()


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
