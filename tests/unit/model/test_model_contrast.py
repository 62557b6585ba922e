"""Label overlap and the contrast that it steers, each against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.losses import Attraction, expected_sharing, info_nce, label_overlap, overlap_contrast, share_label

LABELS = st.integers(1, 5).flatmap(
    lambda classes: st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=1, max_size=6)
)
SEEDS = st.integers(0, 1000)


def vectors(count: int, seed: int = 0, dim: int = 4) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def contrast(a: Tensor, b: Tensor, overlap: Tensor, temperature: float) -> Tensor:
    return overlap_contrast(a, b, Attraction.of(overlap), temperature)


def literal(a: Tensor, b: Tensor, overlap: Tensor, temperature: float) -> float:
    """Cross-entropy of each row's softmax with its weights made a distribution, both ways."""
    total = 0.0
    for one, other, alike in ((a, b, overlap), (b, a, overlap.T)):
        terms = []
        for i, own in enumerate(one):
            scores = torch.stack([torch.cosine_similarity(own, row, dim=0) / temperature for row in other])
            if alike[i].sum() > 0:
                terms.append(-float((alike[i] / alike[i].sum() * (scores - scores.logsumexp(0))).sum()))
        total += sum(terms) / max(1, len(terms)) / 2
    return total


def test_overlap_is_shared_labels_over_all_labels() -> None:
    a = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]])
    b = torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 0]])
    expected = torch.tensor([[1 / 3, 1.0], [1 / 2, 0], [2 / 4, 2 / 4]])
    assert torch.allclose(label_overlap(a, b), expected)


def test_an_unlabelled_item_overlaps_with_nothing() -> None:
    labels = torch.tensor([[0.0, 0], [1, 0]])
    assert label_overlap(labels, labels).tolist() == [[0, 0], [0, 1]]


@given(SEEDS, st.integers(1, 6))
def test_what_is_expected_of_guesses_is_what_independent_classes_give(seed: int, classes: int) -> None:
    """Against the sum over all label sets that two items may have, each with its probability."""
    a, b = (
        torch.rand(1, classes, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (seed, 2000)
    )
    both, expected = (a * b)[0], 0.0
    for sets in range(1, 2**classes):  # of the classes that both have; the empty one shares nothing
        chances = [both[c] if sets >> c & 1 else 1 - both[c] for c in range(classes)]
        expected += float(torch.stack(chances).prod())
    assert expected_sharing(a, b).item() == pytest.approx(expected, abs=1e-5)


@given(LABELS)
def test_of_certain_guesses_it_is_whether_two_items_share_a_label(one: list[list[bool]]) -> None:
    labels = torch.tensor(one).float()
    assert torch.allclose(expected_sharing(labels, labels), share_label(labels, labels).float(), atol=1e-5)


@given(LABELS, LABELS)
def test_overlap_is_the_jaccard_index_of_the_label_sets(one: list[list[bool]], other: list[list[bool]]) -> None:
    classes = min(len(one[0]), len(other[0]))
    one, other = [row[:classes] for row in one], [row[:classes] for row in other]
    found = label_overlap(torch.tensor(one).float(), torch.tensor(other).float())
    for i, row in enumerate(one):
        for j, column in enumerate(other):
            mine, theirs = ({c for c in range(classes) if side[c]} for side in (row, column))
            expected = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0
            assert found[i, j].item() == pytest.approx(expected)


@given(LABELS)
def test_overlap_is_symmetric_and_positive_where_a_label_is_shared(rows: list[list[bool]]) -> None:
    labels = torch.tensor(rows).float()
    overlap = label_overlap(labels, labels)
    assert torch.equal(overlap, overlap.T)
    assert torch.equal(overlap > 0, share_label(labels, labels))
    assert torch.equal(overlap.diagonal(), labels.any(1).float())
    assert overlap.max() <= 1


@given(st.integers(2, 7), SEEDS, st.floats(0.05, 1))
def test_with_the_identity_it_is_info_nce(count: int, seed: int, temperature: float) -> None:
    a, b = vectors(count, seed), vectors(count, seed + 1)
    found = contrast(a, b, torch.eye(count, dtype=torch.float64), temperature)
    assert found.item() == pytest.approx(info_nce(a, b, temperature).item())


@given(st.integers(1, 6), SEEDS)
def test_it_is_its_formula(count: int, seed: int) -> None:
    a, b, overlap = vectors(count, seed), vectors(count, seed + 1), weights(count, seed)
    assert contrast(a, b, overlap, 0.3).item() == pytest.approx(literal(a, b, overlap, 0.3))


@given(st.integers(1, 6), SEEDS)
def test_exchanging_the_sides_changes_nothing(count: int, seed: int) -> None:
    a, b, overlap = vectors(count, seed), vectors(count, seed + 1), weights(count, seed)
    found = contrast(a, b, overlap, 0.3)
    assert contrast(b, a, overlap.T, 0.3).item() == pytest.approx(found.item())


@given(st.permutations(range(5)), SEEDS)
def test_the_order_of_the_rows_changes_nothing(order: list[int], seed: int) -> None:
    a, b, overlap = vectors(5, seed), vectors(5, seed + 1), weights(5, seed)
    found = contrast(a, b, overlap, 0.3)
    moved = contrast(a[order], b[order], overlap[order][:, order], 0.3)
    assert moved.item() == pytest.approx(found.item())


@given(SEEDS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_neither_the_length_of_a_vector_nor_the_scale_of_the_weights_matters(
    seed: int, length: float, scale: float
) -> None:
    a, b, overlap = vectors(4, seed), vectors(4, seed + 1), weights(4, seed) + 0.1
    found = contrast(a, b, overlap, 0.3)
    assert contrast(length * a, b, scale * overlap, 0.3).item() == pytest.approx(found.item())


@given(SEEDS)
def test_a_row_of_zeros_takes_no_part(seed: int) -> None:
    """It attracts nothing and counts in no mean; it stays among what the others are told from."""
    a, b, overlap = vectors(4, seed), vectors(4, seed + 1), weights(4, seed) + 0.1
    overlap[2], overlap[:, 2] = 0, 0
    found = contrast(a, b, overlap, 0.3)
    assert found.item() == pytest.approx(literal(a, b, overlap, 0.3))
    attracted = a.clone()
    attracted[2] *= 5
    assert contrast(attracted, b, overlap, 0.3).item() == pytest.approx(found.item())


def test_with_no_weight_at_all_it_is_zero_with_a_zero_gradient() -> None:
    a = vectors(3).requires_grad_()
    loss = contrast(a, vectors(3, 1), torch.zeros(3, 3, dtype=torch.float64), 0.3)
    loss.backward()
    assert loss == 0
    assert a.grad is not None
    assert a.grad.abs().max() == 0


def test_it_is_lowest_where_the_softmax_is_the_weights() -> None:
    two = torch.eye(2, dtype=torch.float64)
    rows = two.repeat_interleave(2, 0)  # two classes of two items each
    alike = rows @ rows.T
    near = contrast(rows, rows, alike, 0.05)
    far = contrast(rows, rows.roll(1, 0), alike, 0.05)
    assert near.item() == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-6)
    assert far > near + 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_its_gradient_is_that_of_finite_differences(count: int) -> None:
    overlap = weights(count)
    overlap[0] = 0
    a, b = vectors(count).requires_grad_(), vectors(count, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: contrast(a, b, overlap, 0.3), (a, b))
